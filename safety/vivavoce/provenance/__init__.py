"""Provenance: who made a file, with what, when; signed, in the file or beside it (C2PA), and read again. No torch.

credential = open_credential(ProvenanceSettings())
signed = sign(labelled, "audio/wav", origin, credential)
seen = read_provenance(signed.data, credential.roots, signed.sidecar)
"""

from vivavoce.provenance.credential import Credential, trusted_roots
from vivavoce.provenance.errors import ProvenanceCode, ProvenanceError
from vivavoce.provenance.origin import MARK_ALGORITHM, PROVIDER, Origin, bind_mark, binds
from vivavoce.provenance.reading import Provenance, ProvenanceState, read_provenance
from vivavoce.provenance.settings import ProvenanceSettings
from vivavoce.provenance.signing import EMBEDDED, Signed, open_credential, sign, sign_beside

__all__ = [
    "EMBEDDED",
    "MARK_ALGORITHM",
    "PROVIDER",
    "Credential",
    "Origin",
    "Provenance",
    "ProvenanceCode",
    "ProvenanceError",
    "ProvenanceSettings",
    "ProvenanceState",
    "Signed",
    "bind_mark",
    "binds",
    "open_credential",
    "read_provenance",
    "sign",
    "sign_beside",
    "trusted_roots",
]

"""Signing: a labelled file goes in, a file with a manifest comes out, or a manifest beside it, or an error."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime

import c2pa

from vivavoce.provenance.credential import Credential
from vivavoce.provenance.errors import ProvenanceError
from vivavoce.provenance.library import context
from vivavoce.provenance.manifest import definition
from vivavoce.provenance.origin import Origin
from vivavoce.provenance.reading import UNPARSED, ProvenanceState, read_provenance
from vivavoce.provenance.settings import ProvenanceSettings

EMBEDDED = ("audio/wav", "audio/flac", "audio/mpeg", "audio/mp4")
"""Media types whose files carry their manifest themselves. OGG, ADTS and raw PCM have no place for one."""


@dataclass(frozen=True)
class Signed:
    """A signed file.

    Attributes:
        data: The file, final: another byte in it, and the signature is broken.
        sidecar: The manifest store (`application/c2pa`), where the file cannot carry it.
    """

    data: bytes = field(repr=False)
    sidecar: bytes | None = field(repr=False)


_TRIAL = b"RIFF&\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\xc0]\0\0\x80\xbb\0\0\2\0\x10\0data\2\0\0\0\0\0"  # one sample


def open_credential(settings: ProvenanceSettings, now: datetime | None = None) -> Credential:
    """Read the credential, made on first need, and try it: what cannot sign is found out before the first sound.

    Raises:
        ProvenanceError: Missing, unreadable, run out, no pair, or not fit to sign (purpose, roots).
        KeyRingError: The key cannot be read or is open to every user, or the folder could not be made.
    """
    credential = Credential.read(settings)
    now = now or datetime.now(UTC)
    credential.require_valid(now)
    try:
        sign(_TRIAL, "audio/wav", Origin("trial", now, "none", "none", binding=""), credential, now)
    except ProvenanceError as error:
        name = credential.chain[0].subject.rfc4514_string()
        raise ProvenanceError("certificate_unfit", f"{name} cannot sign files: {error.detail}") from error
    return credential


def sign(data: bytes, media_type: str, origin: Origin, credential: Credential, now: datetime | None = None) -> Signed:
    """Sign a file. Its tags must be in it already.

    The result was read again, byte for byte, and found valid under the credential's own roots.

    Args:
        data: The file.
        media_type: As in `sound.MEDIA_TYPES`, or `audio/mp4`.

    Raises:
        ProvenanceError: certificate_expired, certificate_not_yet_valid or signing_failed.
    """
    return _sign(data, media_type, origin, credential, now, embed=media_type in EMBEDDED)


def sign_beside(
    data: bytes, media_type: str, origin: Origin, credential: Credential, now: datetime | None = None
) -> Signed:
    """Sign a file that must stay as it is, because it has left already; as `sign`, with a sidecar for every type."""
    return _sign(data, media_type, origin, credential, now, embed=False)


def _sign(
    data: bytes, media_type: str, origin: Origin, credential: Credential, now: datetime | None, *, embed: bool
) -> Signed:
    credential.require_valid(now or datetime.now(UTC))
    written = io.BytesIO()
    try:
        builder = c2pa.Builder(definition(origin, media_type), context(credential.roots))
        if not embed:
            builder.set_no_embed()
        signer = c2pa.Signer.from_callback(credential.sign, c2pa.C2paSigningAlg.ES256, credential.chain_pem())
        with builder, signer:
            # Beside a file only its bytes are signed: a header that states no length is nothing to the library.
            store = builder.sign(signer, media_type if embed else UNPARSED, io.BytesIO(data), written)
    except c2pa.C2paError as error:
        raise ProvenanceError("signing_failed", f"the file could not be signed: {error}") from error
    signed = Signed(written.getvalue(), None) if embed else Signed(data, store)
    seen = read_provenance(signed.data, credential.roots, signed.sidecar)
    if seen.state is not ProvenanceState.VALID or seen.output_id != origin.output_id:
        raise ProvenanceError("signing_failed", f"the signed file does not hold: {seen.reason}")
    return signed

"""A consent's receipt: one signed file that says what was agreed to and how it stood, checked with public keys alone.

Its fields follow ISO/IEC TS 27560:2023 (consent record: processing, parties, events). It is signed as a detached JWS
(RFC 7515 appendix F, Ed25519 as in RFC 9864) over its canonical JSON (RFC 8785), and carries the log's own entries
about the consent with their inclusion proofs under a signed checkpoint. So two keys agree on what it says: whoever has
the receipts' key alone can alter neither scope nor status. It names nobody: persons appear by identifiers only.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Literal

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws
from joserfc.jwk import OKPKey
from pydantic import AwareDatetime, BaseModel, ConfigDict

from vivavoce.audit.errors import NoteInvalid
from vivavoce.audit.notes import Verifier
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import ConsentStatus

SCHEMA = "ISO/IEC TS 27560:2023; vivavoce consent receipt 1"
ALGORITHM = "Ed25519"
_NAME = "/receipts"
"""What the receipts' key is called after the log's name."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Wording(_Part):
    """A text of the catalogue, by its digest."""

    id: str
    version: str
    language: str
    sha256: str


class Notice(Wording):
    """The privacy notice that was in force, and what shows that the speaker saw it."""

    evidence: str


class PiiInformation(_Part):
    """One kind of personal data."""

    pii_type: str
    special_pii_category: str | None


class Processing(_Part):
    """What may be done, why, where and for how long."""

    privacy_notice: Notice | None
    statement: Wording
    assurance: str
    lawful_basis: Literal["consent"]
    services: tuple[str, ...]
    purposes: tuple[str, ...]
    languages: tuple[str, ...]
    geographic_restrictions: tuple[str, ...]
    commercial: bool
    valid_from: AwareDatetime
    expires_at: AwareDatetime
    pii_information: tuple[PiiInformation, ...]
    collection_method: str
    storage_locations: tuple[str, ...]
    retention_period: str
    recipient_third_parties: tuple[str, ...]
    withdrawal_method: str
    privacy_rights: tuple[str, ...]


class Party(_Part):
    """Who takes part."""

    party_id: str
    party_role: str
    party_name: str


class Event(_Part):
    """A step in the life of the consent."""

    event_type: str
    event_time: AwareDatetime
    entity_id: str
    leaf: int


class Logged(_Part):
    """An entry of the audit log, with the proof that it is there."""

    index: int
    data: str
    path: tuple[str, ...]
    """Hashes of the inclusion proof (base64), upwards."""


class LogEvidence(_Part):
    """The log's entries about the consent, oldest first; the last one is the issuing of this receipt."""

    checkpoint: str
    entries: tuple[Logged, ...]


class Receipt(_Part):
    """What is signed."""

    schema_version: str
    receipt_id: str
    issued_at: AwareDatetime
    record_id: str
    pii_principal_id: str
    status: ConsentStatus
    """As it was at `issued_at`."""
    pii_processing: Processing
    parties: tuple[Party, ...]
    events: tuple[Event, ...]
    log: LogEvidence


@dataclass(frozen=True)
class Keys:
    """The two public keys that a stranger needs."""

    log: Verifier
    receipts: Verifier

    def __str__(self) -> str:
        return f"{self.log}\n{self.receipts}\n"

    @classmethod
    def of(cls, keyring: KeyRing, origin: str) -> Keys:
        """Give an installation's keys; `origin` is its log's name."""
        return cls(Verifier(origin, keyring.log_verifier), Verifier(origin + _NAME, signer(keyring).public_key()))

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Read what `vivavoce consent key` prints; raises `NoteInvalid`."""
        lines = text.split()
        if len(lines) != len(("log", "receipts")):
            raise NoteInvalid("a key file has two lines: the log's key and the receipts' key")
        log, receipts = (Verifier.parse(line) for line in lines)
        if receipts.name != log.name + _NAME:
            raise NoteInvalid(f"the second key is not named {log.name}{_NAME}")
        return cls(log, receipts)


def signer(keyring: KeyRing) -> Ed25519PrivateKey:
    """Derive the receipts' signing key (RFC 5869): the log's own key signs nothing but checkpoints."""
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"vivavoce consent receipt 1")
    return Ed25519PrivateKey.from_private_bytes(derive.derive(keyring.log_signer.private_bytes_raw()))


def header(key: Verifier) -> dict[str, str]:
    """Give the one header that a receipt's signature may have."""
    return {"alg": ALGORITHM, "typ": "vivavoce-consent-receipt", "kid": key.key_id.hex()}


def sign(receipt: Receipt, keyring: KeyRing, origin: str) -> str:
    """Sign a receipt; returns the file's text."""
    said = receipt.model_dump(mode="json")
    key = OKPKey.import_key(signer(keyring))
    token = jws.serialize_compact(
        dict(header(Keys.of(keyring, origin).receipts)), rfc8785.dumps(said), key, [ALGORITHM]
    )
    file = {"receipt": said, "signature": jws.detach_content(token)}
    return json.dumps(file, indent=2, ensure_ascii=False) + "\n"


def encode_path(path: list[bytes]) -> tuple[str, ...]:
    """Write an inclusion proof as base64."""
    return tuple(base64.b64encode(part).decode() for part in path)

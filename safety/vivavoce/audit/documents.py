"""Files that this installation signs for strangers, each with the log's own entries about what it says.

A file is signed as a detached JWS (RFC 7515 appendix F, Ed25519 as in RFC 9864) over its canonical JSON (RFC 8785),
by a key of its own: the log's key signs nothing but checkpoints. It carries entries of the log with their inclusion
proofs under a signed checkpoint. So two keys agree on what it says, and it is checked with the public ones alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from vivavoce.audit import merkle
from vivavoce.audit.errors import DocumentBroken, NoteInvalid
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.ledger.keys import KeyRing, document_signer
from vivavoce.ledger.tables import AuditLeaf

ALGORITHM = "Ed25519"
MAX_BYTES = 1_000_000
"""A document has some 10 kB."""
_NAME = "/receipts"
"""What the documents' key is called after the log's name."""


class Kind(StrEnum):
    """What a document is: the name of its content in the file."""

    RECEIPT = "receipt"
    REPORT = "report"


_TYPES = {Kind.RECEIPT: "vivavoce-consent-receipt", Kind.REPORT: "vivavoce-detection-report"}


class Part(BaseModel):
    """A part of a document: nothing in it that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Logged(Part):
    """An entry of the audit log, with the proof that it is there."""

    index: int
    data: str
    path: tuple[str, ...]
    """Hashes of the inclusion proof (base64), upwards."""


class LogEvidence(Part):
    """The log's entries about the document's matter, oldest first, under one signed head."""

    checkpoint: str
    entries: tuple[Logged, ...]


@dataclass(frozen=True)
class Keys:
    """The two public keys that a stranger needs."""

    log: Verifier
    documents: Verifier
    others: tuple[tuple[Verifier, Verifier], ...] = ()
    """Pairs of the same installation that earlier documents are signed with, or later ones will be."""

    @property
    def pairs(self) -> tuple[tuple[Verifier, Verifier], ...]:
        """All pairs, the one that is used now first."""
        return ((self.log, self.documents), *self.others)

    def __str__(self) -> str:
        return "".join(f"{log}\n{documents}\n" for log, documents in self.pairs)

    @classmethod
    def of(cls, keyring: KeyRing, origin: str) -> Keys:
        """Give an installation's keys; `origin` is its log's name."""
        pairs = [(Verifier(origin, log), Verifier(origin + _NAME, own)) for log, own in keyring.log_verifiers]
        return cls(*pairs[0], tuple(pairs[1:]))

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Read what `str` gives; raises `NoteInvalid`."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines or len(lines) % 2:
            raise NoteInvalid("a key file has two lines: the log's key and the documents' key; and two for each other")
        keys = [Verifier.parse(line) for line in lines]
        pairs = list(zip(keys[::2], keys[1::2], strict=True))
        for log, documents in pairs:
            if documents.name != log.name + _NAME or log.name != keys[0].name:
                raise NoteInvalid(f"keys of another name than {keys[0].name} and {keys[0].name}{_NAME}")
        return cls(*pairs[0], tuple(pairs[1:]))


def signer(keyring: KeyRing) -> Ed25519PrivateKey:
    """Give the documents' signing key."""
    return document_signer(keyring.log_signer)


def header(key: Verifier, kind: Kind) -> dict[str, str]:
    """Give the one header that a document's signature may have."""
    return {"alg": ALGORITHM, "typ": _TYPES[kind], "kid": key.key_id.hex()}


def sign(document: Part, kind: Kind, keyring: KeyRing, origin: str) -> str:
    """Sign a document; returns the file's text."""
    said = document.model_dump(mode="json")
    key = OKPKey.import_key(signer(keyring))
    token = jws.serialize_compact(
        header(Keys.of(keyring, origin).documents, kind), rfc8785.dumps(said), key, [ALGORITHM]
    )
    return json.dumps({kind: said, "signature": jws.detach_content(token)}, indent=2, ensure_ascii=False) + "\n"


def open_signed(data: bytes, kind: Kind, keys: Keys) -> dict[str, Any]:
    """Read a document's content and check its signature; what it says is still to be checked.

    Raises:
        DocumentBroken: No such file, or not signed by these keys.
    """
    if len(data) > MAX_BYTES:
        raise DocumentBroken("file", f"more than {MAX_BYTES} bytes are no {kind}")
    try:
        file = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DocumentBroken("file", "not JSON, or a name stands in it twice") from error
    if not isinstance(file, dict) or set(file) != {kind, "signature"}:
        raise DocumentBroken("file", f"not a {kind} and its signature")
    said, signature = file[kind], file["signature"]
    if not isinstance(said, dict) or not isinstance(signature, str):
        raise DocumentBroken("file", f"not a {kind} and its signature")
    for _, documents in keys.pairs:
        headers = _headers(said, signature, documents)
        if headers == header(documents, kind):
            return said
        if headers is not None:
            raise DocumentBroken("signature", f"signed, but not as a {kind}")
    raise DocumentBroken("signature", f"not signed by {keys.documents.name}, or altered since")


def _headers(said: dict[str, Any], signature: str, documents: Verifier) -> dict[str, Any] | None:
    """Give the header of a signature by this key; None where it is not by it."""
    try:
        key = OKPKey.import_key(documents.key)
        return dict(jws.deserialize_compact(signature, key, [ALGORITHM], payload=rfc8785.dumps(said)).headers())
    except (JoseError, ValueError, TypeError, RecursionError):
        return None


def evidence(session: Session, log: Log, indices: Sequence[int]) -> LogEvidence:
    """Take entries out of the log, with proofs under its newest head.

    Raises:
        LogUnavailable, LogBroken: As `Log.checkpoint`.
    """
    note = log.checkpoint(session)
    size = Checkpoint.open(note, *log.verifiers).size
    entries = tuple(
        Logged(
            index=index,
            data=session.get_one(AuditLeaf, index).data.decode(),
            path=tuple(base64.b64encode(part).decode() for part in log.inclusion(session, index, size)),
        )
        for index in indices
    )
    return LogEvidence(checkpoint=note, entries=entries)


def proven(claimed: LogEvidence, keys: Keys) -> tuple[int, list[dict[str, Any]]]:
    """Check the log's head and each entry's place in it; returns the log's size and what the entries say.

    Raises:
        DocumentBroken: Names what is wrong.
    """
    try:
        head = Checkpoint.open(claimed.checkpoint, *(log for log, _ in keys.pairs))
    except NoteInvalid as error:
        raise DocumentBroken("checkpoint", str(error)) from error
    leaves = []
    for entry in claimed.entries:
        place = f"log entry {entry.index}"
        data = entry.data.encode()
        try:
            path = [base64.b64decode(part, validate=True) for part in entry.path]
            leaf = json.loads(data)
        except ValueError as error:
            raise DocumentBroken(place, "malformed") from error
        if not merkle.verify_inclusion(merkle.leaf_hash(data), entry.index, head.size, path, head.root):
            raise DocumentBroken(place, f"not in the log whose head of {head.size} entries was signed")
        leaves.append(leaf)
    return head.size, leaves


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice: two programs would read two things")
    return found

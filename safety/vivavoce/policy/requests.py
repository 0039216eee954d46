"""What a job was asked for: written down exactly, digested, sealed, and opened again by the worker."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from vivavoce.consent.errors import GrantRefused
from vivavoce.consent.grant import read
from vivavoce.ledger.envelope import seal, seal_plain, unseal, unseal_plain
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.staged import put_staged
from vivavoce.ledger.tables import Job, JobKind, Subject
from vivavoce.policy.errors import PolicyRefused


@dataclass(frozen=True)
class Submission:
    """A request as it reaches admission, authenticated and well-formed, not yet allowed.

    Attributes:
        voice_id, purpose: What speech and conversion ask a consent about; None for a detection.
        request: speech {text, ...}; conversion {...}; detection {...}. Plain JSON.
        input: Sound file of a conversion or detection.
        format: Format of the output, one of `sound.FORMATS`; None for a detection.
        retries: The failed job of the same tenant that is tried anew, if it is one; for the log.
    """

    tenant_id: str
    api_key_id: str
    kind: JobKind
    request: dict[str, Any]
    voice_id: str | None = None
    purpose: str | None = None
    language: str | None = None
    territory: str | None = None
    commercial: bool = False
    input: bytes | None = None
    format: str | None = None
    idempotency_key: str | None = None
    retries: str | None = None


def request_key(job_id: str) -> str:
    """Name the object that holds a job's sealed request."""
    return f"jobs/{job_id}/request"


def input_key(job_id: str) -> str:
    """Name the object that holds a job's sealed input sound."""
    return f"jobs/{job_id}/input"


def write_down(submission: Submission, request: dict[str, Any]) -> bytes:
    """Write what is asked as JSON, always the same bytes for the same request; raises `PolicyRefused`."""
    asked = {
        "kind": submission.kind,
        "voice": submission.voice_id,
        "purpose": submission.purpose,
        "language": submission.language,
        "territory": submission.territory,
        "commercial": submission.commercial,
        "format": submission.format,
        "request": request,
        "input_sha256": None if submission.input is None else hashlib.sha256(submission.input).hexdigest(),
    }
    try:
        return json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise PolicyRefused("request_malformed", "the request holds values that JSON cannot say") from error


def digest(written: bytes) -> str:
    """Digest of a request and, through it, of its input sound (hexadecimal)."""
    return hashlib.sha256(written).hexdigest()


def seal_request(
    session: Session, store: ObjectStore, keyring: KeyRing, job: Job, written: bytes, sound: bytes | None
) -> None:
    """Store a job's request and input, sealed; they vanish if the transaction is rolled back."""
    for key, data in ((job.request_key, written), (job.input_key, sound)):
        if key is not None and data is not None:
            put_staged(session, store, key, _seal(session, keyring, job, key, data))


def open_request(
    job: Job, session: Session, store: ObjectStore, keyring: KeyRing
) -> tuple[dict[str, Any], bytes | None]:
    """Open what a job was asked for: the request and the input sound.

    Raises:
        GrantRefused: `grant_mismatch`: request or input are not those that were admitted and granted; `grant_forged`.
        SealBroken: An object was altered or moved.
        Erased: The subject has left.
        ObjectMissing: An object is gone.
    """
    written = _unseal(session, keyring, job, job.request_key, store.get(job.request_key))
    granted = job.request_sha256 if job.grant_token is None else read(job.grant_token, keyring).request_sha256
    _require_same(digest(written), job.request_sha256)
    _require_same(digest(written), granted)
    asked = json.loads(written)
    sound = None
    if job.input_key is not None:
        sound = _unseal(session, keyring, job, job.input_key, store.get(job.input_key))
        _require_same(hashlib.sha256(sound).hexdigest(), str(asked["input_sha256"]))
    return asked["request"], sound


def _require_same(found: str, expected: str) -> None:
    if not hmac.compare_digest(found, expected):
        raise GrantRefused("grant_mismatch", "the request is not the one that was granted")


def _seal(session: Session, keyring: KeyRing, job: Job, key: str, data: bytes) -> bytes:
    if job.subject_id is None:
        return seal_plain(keyring, data, key.encode())
    return seal(keyring, session.get_one(Subject, job.subject_id), data, key.encode())


def _unseal(session: Session, keyring: KeyRing, job: Job, key: str, sealed: bytes) -> bytes:
    if job.subject_id is None:
        return unseal_plain(keyring, sealed, key.encode())
    return unseal(keyring, session.get_one(Subject, job.subject_id), sealed, key.encode())

"""Admission: a request becomes a job with a grant, or is refused. The caller owns the transactions.

try:
    with database.write() as session:
        job = admit(session, ...)
except (ConsentRefused, PolicyRefused) as refusal:
    with database.write() as session:
        refuse(session, log, submission, refusal.code)
    raise
ring(job.id)  # only now is it there
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent import Purpose, grant
from vivavoce.consent.errors import GrantRefused
from vivavoce.consent.grant import Grant
from vivavoce.consent.service import Authorization, authorize
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobKind, JobStatus
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.requests import (
    Submission,
    digest,
    input_key,
    open_request,
    request_key,
    seal_request,
    write_down,
)
from vivavoce.policy.text import checked_text
from vivavoce.sound import FORMATS

__all__ = ["Submission", "admit", "authorize_job", "open_request", "refuse"]

MAX_IDEMPOTENCY_KEY = 200

_TEXTS = ("text", "instructions")


def admit(
    session: Session, log: Log, keyring: KeyRing, store: ObjectStore, submission: Submission, now: datetime
) -> Job:
    """Let a request in: intent leaf, consent, grant, sealed request, job row, in this order and one transaction.

    A request that repeats an idempotency key gets the job of the first one; nothing happens again.

    Raises:
        PolicyRefused: The request itself is not allowed.
        ConsentRefused: No consent covers it.
        LogUnavailable: The log cannot be written. Nothing was done, and nothing may be.
    """
    earlier = _same_key(session, submission)
    if earlier is not None:
        return _repeated(earlier, submission)
    job_id = new_id("job")
    leaf = log.append(session, _intent(job_id, submission))
    # The log's lock is held from here on, so a rival with the same key has committed or has not begun.
    if _same_key(session, submission) is not None:
        raise PolicyRefused("idempotency_key_in_use", "a request with this key has just been accepted; ask again")
    request = _checked(submission)
    written = write_down(submission, request)
    job = Job(
        id=job_id,
        tenant_id=submission.tenant_id,
        api_key_id=submission.api_key_id,
        kind=submission.kind,
        status=JobStatus.QUEUED,
        purpose=submission.purpose,
        request_key=request_key(job_id),
        input_key=None if submission.input is None else input_key(job_id),
        request_sha256=digest(written),
        format=submission.format,
        idempotency_key=submission.idempotency_key,
        created_at=now,
        intent_leaf=leaf,
        attempt=0,
    )
    if submission.kind is not JobKind.DETECTION:
        _permit(session, keyring, job, submission, now)
    session.add(job)
    session.flush()
    seal_request(session, store, keyring, job, written, submission.input)
    return job


def refuse(session: Session, log: Log, submission: Submission, code: str) -> None:
    """Log that a request was made and refused, once its own transaction is rolled back: an intent and a refusal.

    Raises:
        LogUnavailable: The log cannot be written.
    """
    job_id = new_id("job")
    log.append(session, _intent(job_id, submission))
    entry = Entry(
        Tag.JOB_REFUSE,
        submission.tenant_id,
        submission.api_key_id,
        refs=_refs(job_id, submission),
        facts={"code": code, "kind": str(submission.kind)},
    )
    log.append(session, entry)


def authorize_job(
    session: Session, keyring: KeyRing, job: Job, now: datetime, *, at_release: bool = False
) -> Authorization:
    """Ask again for a speech or conversion job as it stands: is its grant ours, and for it; does the consent hold?

    Args:
        at_release: The work is done. The grant's time is not asked again, since work began within it; and the answer
            stays true until the transaction ends, for a withdrawal then waits (write transactions).

    Raises:
        GrantRefused: grant_forged, grant_expired or grant_mismatch.
        ConsentRefused: No consent covers it any more.
    """
    if job.grant_token is None:
        raise GrantRefused("grant_mismatch", "the job has no grant")
    granted = grant.read(job.grant_token, keyring) if at_release else grant.verify(job.grant_token, keyring, now)
    grant.require_match(granted, job)
    found = authorize(
        session,
        tenant_id=granted.tenant_id,
        voice_id=granted.voice_id,
        operation=granted.operation,
        purpose=granted.purpose,
        language=granted.language,
        now=now,
        lock=at_release,
    )
    if (found.consent_id, found.subject_id) != (granted.consent_id, granted.subject_id):
        raise GrantRefused("grant_mismatch", "the voice is bound to another consent now")
    return found


def _permit(session: Session, keyring: KeyRing, job: Job, submission: Submission, now: datetime) -> None:
    """Ask for consent, and give the job its grant."""
    purpose = submission.purpose or ""
    found = authorize(
        session,
        tenant_id=submission.tenant_id,
        voice_id=submission.voice_id or "",
        operation=submission.kind,
        purpose=purpose,
        language=submission.language,
        now=now,
    )
    job.voice_id, job.consent_id, job.subject_id = found.voice_id, found.consent_id, found.subject_id
    granted = Grant(
        job_id=job.id,
        tenant_id=job.tenant_id,
        voice_id=found.voice_id,
        consent_id=found.consent_id,
        subject_id=found.subject_id,
        operation=submission.kind,
        purpose=purpose,
        language=submission.language,
        request_sha256=job.request_sha256,
        issued_at=now,
        expires_at=now + grant.TTL,
    )
    job.grant_token = grant.sign(granted, keyring)


def _checked(submission: Submission) -> dict[str, Any]:
    """Check what needs no consent to be wrong; returns the request with its texts normalised."""
    if submission.kind is not JobKind.DETECTION:
        if submission.purpose not in set(Purpose):
            raise PolicyRefused("unknown_purpose", f"purposes are {', '.join(Purpose)}")
        if submission.format not in FORMATS:
            raise PolicyRefused("unknown_format", f"formats are {', '.join(FORMATS)}")
    request = dict(submission.request)
    if submission.kind is JobKind.SPEECH:
        for name in _TEXTS:
            if name == "text" or request.get(name):
                request[name] = checked_text(str(request.get(name, "")))
    return request


def _same_key(session: Session, submission: Submission) -> Job | None:
    key = submission.idempotency_key
    if key is None:
        return None
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise PolicyRefused("idempotency_key_malformed", f"1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters")
    statement = select(Job).where(Job.tenant_id == submission.tenant_id, Job.idempotency_key == key)
    return session.scalars(statement).one_or_none()


def _repeated(earlier: Job, submission: Submission) -> Job:
    if digest(write_down(submission, _checked(submission))) != earlier.request_sha256:
        raise PolicyRefused("idempotency_key_reused", "this key was used for another request")
    return earlier


def _intent(job_id: str, submission: Submission) -> Entry:
    detection = submission.kind is JobKind.DETECTION
    purpose = submission.purpose if submission.purpose in set(Purpose) else None
    return Entry(
        Tag.DETECT_INTENT if detection else Tag.JOB_INTENT,
        submission.tenant_id,
        submission.api_key_id,
        refs=_refs(job_id, submission),
        facts={"kind": str(submission.kind)} | ({} if detection else {"purpose": purpose}),
    )


def _refs(job_id: str, submission: Submission) -> dict[str, str | int]:
    refs: dict[str, str | int] = {"job": job_id}
    # The log cannot forget: what is no identifier of ours is text from outside and stays outside.
    if submission.voice_id is not None and is_id(submission.voice_id):
        refs["voice"] = submission.voice_id
    return refs

"""Admission: a request becomes a job with a grant, or is refused. The caller owns the transactions.

try:
    with database.write() as session:
        job = admit(session, ...)
except (ConsentRefused, PolicyRefused) as refusal:
    with database.write() as session:
        refuse(session, log, keyring, submission, refusal.code, now)
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
from vivavoce.consent.profiles import STRICTEST
from vivavoce.consent.service import Authorization, authorize
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Tenant
from vivavoce.policy import text_reviews
from vivavoce.policy.decisions import Decision
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
from vivavoce.policy.text import checked_text, plain_text
from vivavoce.policy.text_judging import Outcome, judge
from vivavoce.sound import FORMATS

__all__ = ["Submission", "admit", "again", "authorize_job", "open_request", "refuse", "require_plain_key"]

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
        return _repeated(session, keyring, earlier, submission, now)
    job_id = new_id("job")
    leaf = log.append(session, _intent(job_id, submission))
    # The log's lock is held from here on, so a rival with the same key has committed or has not begun.
    if _same_key(session, submission) is not None:
        raise PolicyRefused("idempotency_key_in_use", "a request with this key has just been accepted; ask again")
    request = _checked(session, keyring, submission, now)
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


def refuse(session: Session, log: Log, keyring: KeyRing, submission: Submission, code: str, now: datetime) -> None:
    """Log that a request was made and refused, once its own transaction is rolled back: an intent and a refusal.

    A text that somebody must read first (`text_needs_review`) is put before the admins.

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
    if code == "text_needs_review":
        _ask_about_texts(session, log, keyring, submission, now)


def require_plain_key(key: str) -> None:
    """Check an idempotency key; raises `PolicyRefused` (idempotency_key_malformed)."""
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise PolicyRefused("idempotency_key_malformed", f"1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters")


def again(session: Session, keyring: KeyRing, store: ObjectStore, job: Job, api_key_id: str) -> Submission:
    """Put what a failed job was asked for as a new request, which is not let in by this: `admit` asks everything anew.

    Raises:
        PolicyRefused: `job_not_retryable`: it did not fail; what safety has refused is not to be tried again.
        GrantRefused, SealBroken, ObjectMissing, Erased: What was asked for cannot be read any more.
    """
    if job.status != JobStatus.FAILED:
        raise PolicyRefused("job_not_retryable", f"only a failed job can be tried again; this one is {job.status}")
    if job.kind == JobKind.VERIFICATION:
        raise PolicyRefused("job_not_retryable", "one-time words are read once; ask for another challenge")
    request, sound = open_request(job, session, store, keyring)
    granted = None if job.grant_token is None else grant.read(job.grant_token, keyring)
    return Submission(
        tenant_id=job.tenant_id,
        api_key_id=api_key_id,
        kind=JobKind(job.kind),
        request={name: value for name, value in request.items() if name != "stream"},  # nobody listens to a retry
        voice_id=job.voice_id,
        purpose=job.purpose,
        language=None if granted is None else granted.language,
        territory=None if granted is None else granted.territory,
        commercial=granted is not None and granted.commercial,
        input=sound,
        format=job.format,
        retries=job.id,
    )


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
        territory=granted.territory,
        commercial=granted.commercial,
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
        territory=submission.territory,
        commercial=submission.commercial,
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
        territory=submission.territory,
        commercial=submission.commercial,
        request_sha256=job.request_sha256,
        issued_at=now,
        expires_at=now + grant.TTL,
    )
    job.grant_token = grant.sign(granted, keyring)


def _checked(session: Session, keyring: KeyRing, submission: Submission, now: datetime) -> dict[str, Any]:
    """Check what needs no consent to be wrong; returns the request with its texts normalised."""
    if submission.kind is not JobKind.DETECTION:
        if submission.purpose not in set(Purpose):
            raise PolicyRefused("unknown_purpose", f"purposes are {', '.join(Purpose)}")
        if submission.format not in FORMATS:
            raise PolicyRefused("unknown_format", f"formats are {', '.join(FORMATS)}")
    request = dict(submission.request)
    if submission.kind is JobKind.SPEECH:
        rules = _rules(session, submission)

        def answered(text: str) -> Decision | None:
            return text_reviews.answer(session, keyring, submission.tenant_id, text, now)

        for name in _TEXTS:
            if name == "text" or request.get(name):
                request[name] = checked_text(str(request.get(name, "")), rules, answered)
    return request


def _ask_about_texts(session: Session, log: Log, keyring: KeyRing, submission: Submission, now: datetime) -> None:
    for name in _TEXTS:
        text = plain_text(str(submission.request[name])) if submission.request.get(name) else ""
        judgement = judge(text, _rules(session, submission))
        if judgement.outcome is Outcome.REVIEW:
            actor = submission.api_key_id
            text_reviews.ask(session, log, keyring, submission.tenant_id, text, judgement.hits, actor, now)


def _rules(session: Session, submission: Submission) -> str:
    tenant = session.get(Tenant, submission.tenant_id)
    return STRICTEST if tenant is None else tenant.profile


def _same_key(session: Session, submission: Submission) -> Job | None:
    key = submission.idempotency_key
    if key is None:
        return None
    require_plain_key(key)
    statement = select(Job).where(Job.tenant_id == submission.tenant_id, Job.idempotency_key == key)
    return session.scalars(statement).one_or_none()


def _repeated(session: Session, keyring: KeyRing, earlier: Job, submission: Submission, now: datetime) -> Job:
    if digest(write_down(submission, _checked(session, keyring, submission, now))) != earlier.request_sha256:
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
    if submission.retries is not None:
        refs["retries"] = submission.retries
    return refs

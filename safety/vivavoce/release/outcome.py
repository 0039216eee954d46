"""How a job ends: the only code that makes a job final, and the only one that writes outcome leaves.

Status and leaf are written in one transaction and behind the lease's fence, so each job ends once and in the log once,
however many workers think it is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.lease import Lease, held
from vivavoce.ledger.tables import Consent, Job, JobKind, JobStatus, Output
from vivavoce.ledger.webhooks import Event, announce
from vivavoce.release.stream import left_so_far

MAX_DETAIL_CHARACTERS = 1000

_TAGS = {JobKind.DETECTION: Tag.DETECT_OUTCOME, JobKind.VERIFICATION: Tag.VERIFY_OUTCOME}
"""Kinds that end with a finding and make no sound."""
_TOLD: dict[str, Event] = {
    JobStatus.SUCCEEDED: Event.JOB_SUCCEEDED,
    JobStatus.FAILED: Event.JOB_FAILED,
    JobStatus.REFUSED: Event.JOB_REFUSED,
}
"""Ends that a tenant's webhooks hear of; who cancels a job knows it."""


def finish(
    session: Session,
    log: Log,
    lease: Lease | None,
    job_id: str,
    status: JobStatus,
    *,
    now: datetime,
    error_code: str | None = None,
    error_detail: str | None = None,
    output: Output | None = None,
    result: dict[str, Any] | None = None,
    measured: Mapping[str, Json] | None = None,
    actor: str = "operator",
) -> bool:
    """End a job, if it is the caller's to end: status, time and exactly one outcome leaf.

    Args:
        lease: The caller's right to the job; None ends only a job that nobody holds (reaper).
        error_code: Goes into job and log; needed unless the job succeeded.
        error_detail: Goes into the job alone.
        output: The sound of a speech or conversion that succeeded; `door.commit` gives it.
        result: The finding of a detection or verification that succeeded; its numbers go into the log.
        measured: More facts about the output or the finding, for the log alone.
        actor: Who ends a job that nobody holds; with a lease it is its owner.

    Returns:
        False, and nothing is changed, if the job is final, or no longer (or not yet again) the caller's.

    Raises:
        LogUnavailable: The log cannot be written; the job does not end.
        ValueError: Status, error, output and result contradict each other.
    """
    job = held(session, lease) if lease is not None else _nobodys(session, job_id, now)
    if job is None or job.id != job_id:
        return False
    if lease is not None:
        actor = f"worker:{lease.owner}"
    _require_consistent(job, status, error_code, output, result)
    facts = _of_output(session, output) | _numbers(result) | dict(measured or {})
    job.error_code, job.result = error_code, result
    job.error_detail = error_detail[:MAX_DETAIL_CHARACTERS] if error_detail is not None else None
    if output is not None:
        session.add(output)
    _end(session, log, job, status, facts, _refs(job, output), actor, now)
    return True


def cancel(session: Session, log: Log, job_id: str, *, actor: str, now: datetime) -> bool:
    """End a job at its tenant's word, also under the hands of a worker, which then delivers nothing.

    Returns:
        False, and nothing is changed, if the job has ended.

    Raises:
        LogUnavailable: The log cannot be written; the job does not end.
    """
    return _break_off(session, log, job_id, JobStatus.CANCELLED, "cancelled", "cancelled by the tenant", actor, now)


def refuse(session: Session, log: Log, job_id: str, code: str, detail: str, *, actor: str, now: datetime) -> bool:
    """End a job that may go on no longer, also under the hands of a worker, which then delivers nothing.

    Returns:
        False, and nothing is changed, if the job has ended.

    Raises:
        LogUnavailable: The log cannot be written; the job does not end.
    """
    return _break_off(session, log, job_id, JobStatus.REFUSED, code, detail, actor, now)


def _break_off(
    session: Session, log: Log, job_id: str, status: JobStatus, code: str, detail: str, actor: str, now: datetime
) -> bool:
    unended = select(Job).where(Job.id == job_id, Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)))
    job = session.scalars(unended.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if job is None:
        return False
    facts: dict[str, Json] = {"status_before": job.status}
    job.error_code, job.error_detail = code, detail
    _end(session, log, job, status, facts, _refs(job, None), actor, now)
    return True


def _end(
    session: Session,
    log: Log,
    job: Job,
    status: JobStatus,
    more: Mapping[str, Json],
    refs: dict[str, str | int],
    actor: str,
    now: datetime,
) -> None:
    """Write an end down: row and leaf. The job's row is locked by the caller."""
    job.status = status
    job.stage = None
    job.finished_at = now
    job.lease_owner = job.lease_expires_at = None
    session.flush()
    facts: dict[str, Json] = {"status": str(status), "kind": job.kind, "attempt": job.attempt, "code": job.error_code}
    facts |= left_so_far(session, job.id)
    tag = _TAGS.get(JobKind(job.kind), Tag.JOB_OUTCOME)
    job.outcome_leaf = log.append(session, Entry(tag, job.tenant_id, actor, refs, facts | dict(more)))
    if job.status in _TOLD:
        told = {name: str(id_) for name, id_ in refs.items() if name in ("job", "output", "consent")}
        announce(session, job.tenant_id, _TOLD[job.status], told, now)
    session.flush()


def _nobodys(session: Session, job_id: str, now: datetime) -> Job | None:
    """Read and lock a job that waits, or whose holder has let the lease run out."""
    abandoned = and_(Job.status == JobStatus.RUNNING, Job.lease_expires_at < now)
    free = select(Job).where(Job.id == job_id, or_(Job.status == JobStatus.QUEUED, abandoned))
    return session.scalars(free.with_for_update().execution_options(populate_existing=True)).one_or_none()


def _require_consistent(
    job: Job, status: JobStatus, error_code: str | None, output: Output | None, result: dict[str, Any] | None
) -> None:
    if not status.final:
        raise ValueError(f"{status} is not an end")
    succeeded = status is JobStatus.SUCCEEDED
    if succeeded == (error_code is not None):
        raise ValueError("a job succeeds, or has an error code")
    finding = job.kind in _TAGS
    if (output is not None) != (succeeded and not finding) or (result is not None) != (succeeded and finding):
        raise ValueError("speech and conversion succeed with an output, all others with a result")
    if output is not None and (output.job_id, output.tenant_id) != (job.id, job.tenant_id):
        raise ValueError("the output is another job's")


def _of_output(session: Session, output: Output | None) -> dict[str, Json]:
    if output is None:
        return {}
    return {
        "sha256": output.sha256,
        "format": output.format,
        "seconds": round(output.seconds, 3),
        "size_bytes": output.size_bytes,
        "mark_identity": output.mark_identity,
        "mark_score": round(output.mark_score, 4),
        "mark_strength": output.mark_strength,
        "model": output.model_id,
        "assurance": session.get_one(Consent, output.consent_id).assurance,
    }


def _numbers(result: dict[str, Any] | None) -> dict[str, Json]:
    """Numbers and truth values of a finding: no text from outside can get into the log by this way."""
    return {name: value for name, value in (result or {}).items() if isinstance(value, bool | int | float | None)}


def _refs(job: Job, output: Output | None) -> dict[str, str | int]:
    refs: dict[str, str | int] = {"job": job.id, "intent": job.intent_leaf}
    found = {"voice": job.voice_id, "consent": job.consent_id, "subject": job.subject_id}
    return refs | {name: id_ for name, id_ in (found | {"output": output.id if output else None}).items() if id_}

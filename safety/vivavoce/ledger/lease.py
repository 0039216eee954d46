"""Leases: which worker may work on a job, and until when.

The job row is the truth and the broker only a doorbell, so any number of workers may be rung for one job. The claim is
one conditional UPDATE; each claim takes the next attempt number, and that number is the fence: whoever comes back
late with an older attempt can neither renew nor finish (Kleppmann, "How to do distributed locking", fencing tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Update, and_, func, or_, select, update
from sqlalchemy.orm import Session

from vivavoce.ledger.tables import Job, JobStage, JobStatus


@dataclass(frozen=True)
class Lease:
    """The right of one worker to work on one job, in one attempt."""

    job_id: str
    owner: str
    attempt: int


def claim(session: Session, job_id: str, owner: str, now: datetime, ttl: timedelta) -> Lease | None:
    """Take a job that waits, or whose holder has let its lease run out; None if it is not to be had."""
    free = or_(Job.status == JobStatus.QUEUED, _expired(now))
    taken = _changes_one(
        session,
        update(Job)
        .where(Job.id == job_id, free)
        .values(
            status=JobStatus.RUNNING,
            attempt=Job.attempt + 1,
            stage=None,
            lease_owner=owner,
            lease_expires_at=now + ttl,
            started_at=func.coalesce(Job.started_at, now),
        ),
    )
    if not taken:
        return None
    # The row is locked by our own UPDATE until the caller commits: nobody can have counted on in between.
    attempt = session.scalars(select(Job.attempt).where(Job.id == job_id)).one()
    return Lease(job_id, owner, attempt)


def renew(session: Session, lease: Lease, now: datetime, ttl: timedelta) -> bool:
    """Prolong a lease to `now + ttl`; False if it was lost or the job is final."""
    return _changes_one(session, update(Job).where(_holds(lease)).values(lease_expires_at=now + ttl))


def advance(session: Session, lease: Lease, stage: JobStage) -> bool:
    """Write down how far the work has come; False if the lease was lost or the job is final."""
    return _changes_one(session, update(Job).where(_holds(lease)).values(stage=stage))


def give_back(session: Session, lease: Lease) -> bool:
    """Return a job unfinished to the queue, at once; False if the lease was lost.

    The attempt stays counted: its number is the fence and must never be used twice.
    """
    return _changes_one(
        session,
        update(Job)
        .where(_holds(lease))
        .values(status=JobStatus.QUEUED, stage=None, lease_owner=None, lease_expires_at=None),
    )


def held(session: Session, lease: Lease) -> Job | None:
    """Read the job and lock its row until the transaction ends; None if the lease was lost or the job is final.

    A lease past its time that nobody has taken over still holds: under the row lock nobody can take it any more.
    """
    statement = select(Job).where(_holds(lease)).with_for_update().execution_options(populate_existing=True)
    return session.scalars(statement).one_or_none()


def abandoned(session: Session, now: datetime) -> list[Job]:
    """List running jobs whose holder has let the lease run out, oldest lease first."""
    return list(session.scalars(select(Job).where(_expired(now)).order_by(Job.lease_expires_at)))


def waiting(session: Session, before: datetime, limit: int) -> list[Job]:
    """List at most `limit` queued jobs that were created before a moment, oldest first."""
    statement = select(Job).where(Job.status == JobStatus.QUEUED, Job.created_at < before)
    return list(session.scalars(statement.order_by(Job.created_at).limit(limit)))


def _expired(now: datetime) -> ColumnElement[bool]:
    return and_(Job.status == JobStatus.RUNNING, Job.lease_expires_at < now)


def _holds(lease: Lease) -> ColumnElement[bool]:
    return and_(
        Job.id == lease.job_id,
        Job.status == JobStatus.RUNNING,
        Job.lease_owner == lease.owner,
        Job.attempt == lease.attempt,
    )


def _changes_one(session: Session, statement: Update) -> bool:
    result: CursorResult[Any] = session.connection().execute(statement)
    session.expire_all()
    return result.rowcount == 1

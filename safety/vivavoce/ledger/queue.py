"""How long a job will take: its place among those that wait, and an estimate from jobs that were finished lately.

Jobs are begun in the order in which they came. As many as run now are taken for as many as can run at once, which is
so whenever anything waits. Nobody is told a time that was not measured: before a few jobs have been finished there is
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from vivavoce.ledger.tables import Job, JobStatus

RECENT = 20
"""Finished jobs that an estimate is made from."""
LEAST = 3
"""Of them, before there is one."""


@dataclass(frozen=True)
class Outlook:
    """What a caller can expect.

    Attributes:
        position: Place in the queue, 1 for the next; None once begun.
        seconds: Until the job's end, most likely; None where nothing is known, or it has ended.
    """

    position: int | None = None
    seconds: float | None = None


def outlook(session: Session, job: Job, now: datetime) -> Outlook:
    """Look ahead for one job."""
    status = JobStatus(job.status)
    if status.final:
        return Outlook()
    own = _usual_seconds(session, job.kind)
    if status is JobStatus.RUNNING:
        since = 0.0 if job.started_at is None else (now - job.started_at).total_seconds()
        return Outlook(seconds=None if own is None else max(0.0, own - since))
    earlier = or_(Job.created_at < job.created_at, and_(Job.created_at == job.created_at, Job.id < job.id))
    ahead = _count(session, JobStatus.QUEUED, earlier)
    usual = _usual_seconds(session, None)
    if own is None or usual is None:
        return Outlook(ahead + 1)
    running = _count(session, JobStatus.RUNNING)
    # Who runs now is half done, on average; where nobody runs, only who is ahead is waited for.
    waited = ahead + running / 2
    return Outlook(ahead + 1, own + usual * waited / max(1, running))


def _count(session: Session, status: JobStatus, *further: object) -> int:
    return session.scalars(select(func.count()).select_from(Job).where(Job.status == status, *further)).one()  # type: ignore[arg-type]


def _usual_seconds(session: Session, kind: str | None) -> float | None:
    """Median time from beginning to end of the latest jobs that succeeded, of a kind or of all."""
    finished = select(Job.started_at, Job.finished_at).where(Job.status == JobStatus.SUCCEEDED)
    if kind is not None:
        finished = finished.where(Job.kind == kind)
    latest = session.execute(finished.order_by(Job.finished_at.desc()).limit(RECENT))
    took = [(end - begun).total_seconds() for begun, end in latest if begun is not None and end is not None]
    return median(took) if len(took) >= LEAST else None

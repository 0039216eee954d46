"""Worker processes as they tell of themselves: who is there, busy or idle, on which device."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import BigInteger, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from vivavoce.ledger.tables import Base, Job, JobStatus

BEAT = timedelta(seconds=5)
"""How often a worker tells."""
SILENT = 4 * BEAT
"""After which nobody counts on a worker any more: it was killed, hangs, or does not reach the database."""
FORGOTTEN = timedelta(days=1)
"""After which a silent worker's row is deleted."""


class Worker(Base):
    """A worker process."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    """As leases and entries of the log name it: host, process and something random."""
    version: Mapped[str] = mapped_column(String(40))
    model_id: Mapped[str] = mapped_column(String(120))
    device: Mapped[str] = mapped_column(String(120))
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the device in all, and of that ..."""
    free_bytes: Mapped[int] = mapped_column(BigInteger)
    loaded: Mapped[bool]
    """Whether the model is in memory now; an idle one can be unloaded."""
    slots: Mapped[int]
    """Jobs that it takes at once."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


@dataclass(frozen=True)
class Sighting:
    """A worker and what it holds; `worker` is None where leases name one that never told of itself or is forgotten."""

    id: str
    worker: Worker | None
    jobs: int
    silent: bool

    @property
    def state(self) -> Literal["silent", "busy", "idle"]:
        """In one word."""
        if self.silent:
            return "silent"
        return "busy" if self.jobs else "idle"


def told(session: Session, worker: Worker) -> None:
    """Write what a worker tells, and forget those that have been silent for long."""
    session.merge(worker)
    session.execute(delete(Worker).where(Worker.seen_at < worker.seen_at - FORGOTTEN))


def gone(session: Session, worker_id: str) -> None:
    """Take the row of a worker that stops."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def present(session: Session, now: datetime) -> list[Sighting]:
    """All workers that told of themselves or hold a job, those that are silent too."""
    held = select(Job.lease_owner, func.count(), func.max(Job.lease_expires_at))
    held = held.where(Job.status == JobStatus.RUNNING, Job.lease_owner.is_not(None)).group_by(Job.lease_owner)
    leases = {str(owner): (jobs, until) for owner, jobs, until in session.execute(held)}
    known = {worker.id: worker for worker in session.scalars(select(Worker))}
    found = []
    for name in sorted({*leases, *known}):
        worker, (jobs, until) = known.get(name), leases.get(name, (0, None))
        silent = worker.seen_at < now - SILENT if worker else until is None or until < now
        found.append(Sighting(name, worker, jobs, silent))
    return found

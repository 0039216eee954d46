"""No orphan audio: deletes every sound in the store that no output names and none can come to name.

A worker stores an output's sound before it commits the row that names it, so one that is killed, stopped or beaten in
between leaves a sound behind. What may go is decided by facts that never turn back: the job is final, or a later
attempt has begun. A late loser may therefore still store its sound; the next sweep finds that too.
"""

from __future__ import annotations

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.ledger.database import Database
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobStatus, Output

_OUTPUTS = "outputs"  # door: lists and deletes by name, reads none of them
_PAGE = 500
"""Keys that are looked up in one query."""

_log = structlog.get_logger("vivavoce.workers")


def sweep_job(database: Database, store: ObjectStore, job_id: str) -> int:
    """Delete what a job has left behind; returns the number of objects."""
    return _sweep(database, store, store.list(f"{_OUTPUTS}/{job_id}"))


def sweep_all(database: Database, store: ObjectStore) -> int:
    """Delete what any job has left behind; returns the number of objects. Reads the list of all sounds."""
    keys = store.list(_OUTPUTS)
    return sum(_sweep(database, store, keys[start : start + _PAGE]) for start in range(0, len(keys), _PAGE))


def _sweep(database: Database, store: ObjectStore, keys: list[str]) -> int:
    # The keys were listed before the rows are read: a sound whose output is committed in between is seen as named.
    with database.read() as session:
        orphans = _orphans(session, keys) if keys else []
    for key in orphans:
        store.delete(key)
        _log.info("orphan_deleted", key=key)
    return len(orphans)


def _orphans(session: Session, keys: list[str]) -> list[str]:
    # door: compares names, reads no object
    named = set(session.scalars(select(Output.object_key).where(Output.object_key.in_(keys))))
    job_ids = {_parts(key)[0] for key in keys}
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(job_ids)))}
    return [key for key in keys if key not in named and _settled(jobs.get(_parts(key)[0]), _parts(key)[1])]


def _settled(job: Job | None, attempt: int) -> bool:
    """Whether this attempt at this job can never be committed any more."""
    if job is None:
        return True
    return job.status != JobStatus.RUNNING or attempt < job.attempt


def _parts(key: str) -> tuple[str, int]:
    _, job_id, attempt = key.split("/")
    return job_id, int(attempt)

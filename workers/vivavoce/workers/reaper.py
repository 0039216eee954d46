"""The reaper: finds what a lost doorbell, a killed worker or a late loser left behind, and sets it right.

Every worker runs one. They need not agree: each step is a ring, a fenced finish or a deletion that stays right whatever
the others do meanwhile.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import structlog

from vivavoce.ledger.lease import abandoned, waiting
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.retention import retire
from vivavoce.release.withdrawal import end_hopeless
from vivavoce.workers.endings import EXHAUSTED, end_job
from vivavoce.workers.host import Host
from vivavoce.workers.logs import log_unforeseen
from vivavoce.workers.rounds import Rounds
from vivavoce.workers.sweep import sweep_all, sweep_job
from vivavoce.workers.tasknames import ring

_log = structlog.get_logger("vivavoce.workers")


class Reaper(Rounds):
    """A thread that looks around every `reap_seconds`, and through the whole store every `sweep_seconds`."""

    def __init__(self, host: Host) -> None:
        super().__init__("reaper", host.settings.reap_seconds)
        self._host = host
        self._swept = -host.settings.sweep_seconds  # so the first look sweeps, after a crash of this very worker

    def look(self, now: datetime) -> None:
        """Do one round."""
        self._reclaim(now)
        self._end_hopeless(now)
        self._ring_again(now)
        # What an erasure could not delete at once, because the store was away or somebody was killed.
        delete_doomed(self._host.database, self._host.store, self._host.log, f"worker:{self._host.owner}")
        if time.monotonic() - self._swept >= self._host.settings.sweep_seconds:
            sweep_all(self._host.database, self._host.store)
            self._retire(now)
            self._swept = time.monotonic()

    def _go(self) -> bool:
        self.look(datetime.now(UTC))
        return False

    def _reclaim(self, now: datetime) -> None:
        with self._host.database.read() as session:
            jobs = abandoned(session, now)
        for job in jobs:
            _log.warning("job_abandoned", job_id=job.id, attempt=job.attempt, owner=job.lease_owner)
            if job.attempt < self._host.settings.max_attempts:
                ring(self._host.celery, job.id)
            else:
                self._give_up(job.id, now)

    def _give_up(self, job_id: str, now: datetime) -> None:
        try:
            with self._host.database.write() as session:
                end_job(session, self._host.log, None, job_id, EXHAUSTED, now)
            sweep_job(self._host.database, self._host.store, job_id)
        except Exception as error:
            log_unforeseen("job_not_given_up", error)  # the other jobs must not wait behind this one

    def _end_hopeless(self, now: datetime) -> None:
        """End queued jobs whose consent has ended or whose voice is deleted, without waiting for a free worker."""
        with self._host.database.read() as session:
            if not waiting(session, now, 1):
                return
        with self._host.database.write() as session:
            ended = end_hopeless(session, self._host.log, f"worker:{self._host.owner}", now)
        if ended:
            _log.info("hopeless_jobs_ended", jobs=ended)

    def _retire(self, now: datetime) -> None:
        """Delete what may be kept no longer."""
        actor, gone = f"worker:{self._host.owner}", 1
        while gone:
            with self._host.database.write() as session:
                gone = retire(session, self._host.log, actor, now)
        delete_doomed(self._host.database, self._host.store, self._host.log, actor)

    def _ring_again(self, now: datetime) -> None:
        # Busy workers will come to waiting jobs by themselves. Only where this one is idle while a job waits was its
        # doorbell lost, or not yet heard; so a long queue is never rung for twice over.
        idle = self._host.settings.concurrency - self._host.keeper.busy
        patience = timedelta(seconds=self._host.settings.reap_seconds)
        with self._host.database.read() as session:
            jobs = waiting(session, now - patience, max(idle, 0))
        for job in jobs:
            _log.info("job_rung_again", job_id=job.id)
            ring(self._host.celery, job.id)

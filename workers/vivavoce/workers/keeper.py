"""The heartbeat: one thread that renews the leases of all jobs this worker is busy with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.ledger.database import Database
from vivavoce.ledger.lease import Lease, renew

_log = structlog.get_logger("vivavoce.workers")

_BEATS_PER_LEASE = 3
"""Renewals that a lease outlives: two may fail before it runs out."""


class Hold:
    """A lease while it is worked under. `lost` is set once the worker can no longer count on it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = threading.Event()
        self.renewed = time.monotonic()


class LeaseKeeper:
    """Renews leases until they are let go, and says so when one is lost."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl
        self._holds: set[Hold] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """Number of jobs that are held."""
        with self._lock:
            return len(self._holds)

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[Hold]:
        """Keep a fresh lease alive for as long as the block runs."""
        hold = Hold(lease)
        with self._lock:
            self._holds.add(hold)
        try:
            yield hold
        finally:
            with self._lock:
                self._holds.discard(hold)

    def close(self) -> None:
        """Stop the heartbeat."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._ttl.total_seconds() / _BEATS_PER_LEASE):
            with self._lock:
                holds = [hold for hold in self._holds if not hold.lost.is_set()]
            for hold in holds:
                self._beat(hold)

    def _beat(self, hold: Hold) -> None:
        lease, began = hold.lease, time.monotonic()
        try:
            with self._database.write() as session:
                ours = renew(session, lease, datetime.now(UTC), self._ttl)
        except SQLAlchemyError as error:
            # The database may come back in time; until the lease has run out nobody else may begin.
            _log.warning("lease_not_renewed", job_id=lease.job_id, attempt=lease.attempt, error=type(error).__name__)
            ours = began - hold.renewed < self._ttl.total_seconds()
        else:
            hold.renewed = began
        if not ours:
            _log.warning("lease_lost", job_id=lease.job_id, attempt=lease.attempt)
            hold.lost.set()

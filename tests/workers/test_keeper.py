"""The heartbeat: a busy worker keeps its jobs, and learns soon that it has lost one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.consent.world import World
from tests.workers.house import now, wait_for

from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import Lease, abandoned, claim
from vivavoce.ledger.tables import JobKind
from vivavoce.workers.keeper import LeaseKeeper

TTL = timedelta(seconds=1)


@pytest.fixture
def world(sqlite_url: str, keyring: KeyRing) -> World:
    return World(Database(sqlite_url), keyring)


@pytest.fixture
def keeper(world: World) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(world.database, TTL)
    yield keeper
    keeper.close()


def take(world: World) -> Lease:
    asked = world.submission(None, kind=JobKind.DETECTION, request={}, input=b"x", format=None, purpose=None)
    job_id = world.admit(asked, now()).id
    with world.database.write() as session:
        lease = claim(session, job_id, "me", now(), TTL)
    assert lease is not None
    return lease


def test_a_lease_is_kept_as_long_as_it_is_held_and_no_longer(world: World, keeper: LeaseKeeper) -> None:
    lease = take(world)
    with keeper.hold(lease) as hold:
        assert keeper.busy == 1
        time.sleep(2 * TTL.total_seconds())
        with world.database.read() as session:
            assert abandoned(session, now()) == []
        assert not hold.lost.is_set()
    assert keeper.busy == 0

    def is_abandoned() -> bool:
        with world.database.read() as session:
            return [job.id for job in abandoned(session, now())] == [lease.job_id]

    wait_for(is_abandoned, "the lease to run out")


def test_a_lost_lease_is_told(world: World, keeper: LeaseKeeper) -> None:
    """The engine asks `lost` between two groups and stops; other jobs are not concerned."""
    lost, kept = take(world), take(world)
    with keeper.hold(lost) as losing, keeper.hold(kept) as keeping:
        with world.database.write() as session:
            assert claim(session, lost.job_id, "thief", now() + 2 * TTL, TTL) is not None
        assert losing.lost.wait(120)
        assert not keeping.lost.is_set()

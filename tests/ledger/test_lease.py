"""Leases: one holder at a time, and no way back for whoever lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from vivavoce.ledger.database import Database
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease, abandoned, claim, give_back, held, renew, waiting
from vivavoce.ledger.tables import ApiKey, Job, JobKind, JobStatus, Tenant

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
TTL = timedelta(seconds=30)


@pytest.fixture
def job_id(database: Database) -> str:
    """A job that waits."""
    with database.write() as session:
        tenant = Tenant(id=new_id("ten"), name="t", created_at=NOW)
        session.add(tenant)
        session.flush()
        key = ApiKey(id=new_id("key"), tenant_id=tenant.id, name="k", prefix="p", digest="d", scopes=[], created_at=NOW)
        session.add(key)
        session.flush()
        job = Job(
            id=new_id("job"),
            tenant_id=tenant.id,
            api_key_id=key.id,
            kind=JobKind.DETECTION,
            status=JobStatus.QUEUED,
            request_key="jobs/x/request",
            request_sha256="0" * 64,
            created_at=NOW,
            intent_leaf=0,
        )
        session.add(job)
        return job.id


def take(database: Database, job_id: str, owner: str, now: datetime = NOW) -> Lease | None:
    with database.write() as session:
        return claim(session, job_id, owner, now, TTL)


def test_of_many_workers_rung_for_one_job_one_gets_it(database: Database, job_id: str) -> None:
    """A doorbell may ring twice or everywhere: one worker starts."""
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda number: take(database, job_id, f"worker-{number}"), range(8)))
    (winner,) = [lease for lease in leases if lease is not None]
    with database.read() as session:
        job = session.get_one(Job, job_id)
    assert (job.status, job.attempt, job.lease_owner) == (JobStatus.RUNNING, 1, winner.owner)
    assert job.lease_expires_at == NOW + TTL
    assert job.started_at == NOW


def test_unknown_job_is_not_claimed(database: Database) -> None:
    assert take(database, "job_unknown", "worker") is None


def test_a_held_job_is_taken_over_only_after_its_lease(database: Database, job_id: str) -> None:
    """At the last moment of its lease a job still belongs to its holder, and not a moment later."""
    first = take(database, job_id, "a")
    assert take(database, job_id, "b", NOW + TTL) is None
    second = take(database, job_id, "b", NOW + TTL + timedelta(microseconds=1))
    assert first == Lease(job_id, "a", 1)
    assert second == Lease(job_id, "b", 2)
    with database.read() as session:
        assert session.get_one(Job, job_id).started_at == NOW


def test_the_loser_can_do_nothing_any_more(database: Database, job_id: str) -> None:
    """A worker that slept through its lease can neither renew, give back nor finish, even if it claimed anew itself."""
    late = NOW + 2 * TTL
    first = take(database, job_id, "a")
    second = take(database, job_id, "a", late)
    assert first is not None
    assert second is not None
    with database.write() as session:
        assert not renew(session, first, late, TTL)
        assert not give_back(session, first)
        assert held(session, first) is None
        assert held(session, second) is not None


def test_renewing_keeps_others_out(database: Database, job_id: str) -> None:
    lease = take(database, job_id, "a")
    assert lease is not None
    with database.write() as session:
        assert renew(session, lease, NOW + TTL / 2, TTL)
    assert take(database, job_id, "b", NOW + TTL * 1.4) is None
    assert take(database, job_id, "b", NOW + TTL * 1.6) is not None


@pytest.mark.parametrize("status", [status for status in JobStatus if status.final])
def test_a_final_job_stays_final(database: Database, job_id: str, status: JobStatus) -> None:
    """Neither its last holder nor anybody else can take up what has ended."""
    lease = take(database, job_id, "a")
    assert lease is not None
    with database.write() as session:
        session.get_one(Job, job_id).status = status
    with database.write() as session:
        assert not renew(session, lease, NOW, TTL)
        assert held(session, lease) is None
        assert not give_back(session, lease)
        assert abandoned(session, NOW + 2 * TTL) == []
    assert take(database, job_id, "b", NOW + 2 * TTL) is None


def test_what_is_given_back_waits_again_with_its_attempt_counted(database: Database, job_id: str) -> None:
    lease = take(database, job_id, "a")
    assert lease is not None
    with database.write() as session:
        assert give_back(session, lease)
        assert not renew(session, lease, NOW, TTL)
    assert take(database, job_id, "b") == Lease(job_id, "b", 2)


def test_abandoned_and_waiting_jobs_are_found(database: Database, job_id: str) -> None:
    moment = timedelta(seconds=1)
    with database.read() as session:
        assert waiting(session, NOW, 5) == []
        assert [job.id for job in waiting(session, NOW + moment, 5)] == [job_id]
        assert waiting(session, NOW + moment, 0) == []
    take(database, job_id, "a")
    with database.read() as session:
        assert waiting(session, NOW + moment, 5) == []
        assert abandoned(session, NOW + TTL) == []
        assert [job.id for job in abandoned(session, NOW + TTL + moment)] == [job_id]


def test_a_finisher_and_a_claimer_exclude_each_other(database: Database, job_id: str) -> None:
    """While the holder is about to finish under `held`, an overdue lease cannot be taken over behind its back."""
    late = NOW + 2 * TTL
    lease = take(database, job_id, "a")
    assert lease is not None
    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            job = held(session, lease)
            assert job is not None
            rival = pool.submit(take, database, job_id, "b", late)
            job.status = JobStatus.SUCCEEDED
        assert rival.result(timeout=20) is None

"""A job ends once, in its row and in the log, whoever tries and however often."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from tests.consent.world import NOW, World, on_sqlite
from tests.release.desk import begin

from vivavoce.audit.errors import LogUnavailable
from vivavoce.ledger.lease import Lease, claim
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Output
from vivavoce.release.outcome import finish


@pytest.fixture
def voice(world: World) -> str:
    return world.voice(world.consent())


def end(world: World, lease: Lease | None, job_id: str, status: JobStatus = JobStatus.FAILED, **changes: Any) -> bool:
    asked: dict[str, Any] = {"error_code": "model_failed", "now": NOW}
    with world.database.write() as session:
        return finish(session, world.log, lease, job_id, status, **asked | changes)


def outcomes(world: World) -> list[dict[str, Any]]:
    return world.leaves("job:outcome", "detect:outcome")


def test_the_first_end_counts_and_no_other(world: World, voice: str) -> None:
    job, lease = begin(world, voice)
    assert end(world, lease, job.id, error_detail="Jane's text did it")
    assert not end(world, lease, job.id, JobStatus.REFUSED, error_code="other")
    assert not end(world, None, job.id, JobStatus.CANCELLED, error_code="cancelled")
    ended = world.job(job.id)
    assert (ended.status, ended.error_code, ended.error_detail) == ("failed", "model_failed", "Jane's text did it")
    (leaf,) = outcomes(world)
    assert leaf["index"] == ended.outcome_leaf
    assert (leaf["facts"]["status"], leaf["facts"]["code"]) == ("failed", "model_failed")
    assert "Jane" not in json.dumps(leaf)


def test_a_stale_lease_ends_nothing(world: World, voice: str) -> None:
    job, first = begin(world, voice)
    late = NOW + timedelta(minutes=1)
    with world.database.write() as session:
        second = claim(session, job.id, "worker-2", late, timedelta(seconds=30))
    for stale in (first, Lease(job.id, "worker-2", 1), Lease(job.id, "worker-1", 2)):
        assert not end(world, stale, job.id, now=late)
    assert outcomes(world) == []
    assert end(world, second, job.id, now=late)
    assert len(outcomes(world)) == 1


@on_sqlite
def test_a_lease_on_one_job_does_not_end_another(world: World, voice: str) -> None:
    (_, lease), (other, _) = begin(world, voice), begin(world, voice)
    assert not end(world, lease, other.id)
    assert outcomes(world) == []


def test_without_a_lease_only_nobodys_job_ends(world: World, voice: str) -> None:
    """A cancellation takes a queued job; the reaper takes one whose worker has let its lease run out; nobody more."""
    queued = world.admit(world.submission(voice))
    assert end(world, None, queued.id, JobStatus.CANCELLED, error_code="cancelled", actor=world.account.key_id)
    held, _ = begin(world, voice)
    assert not end(world, None, held.id)
    assert not end(world, None, held.id, now=NOW + timedelta(seconds=30))
    assert end(world, None, held.id, now=NOW + timedelta(seconds=31))
    assert not end(world, None, "job_unknown")
    assert [leaf["actor"] for leaf in outcomes(world)] == [world.account.key_id, "operator"]


def test_of_many_who_end_a_job_at_once_one_does(world: World, voice: str) -> None:
    job, lease = begin(world, voice)
    late = NOW + timedelta(minutes=1)  # so that the reaper may have it as well

    def attempt(number: int) -> bool:
        return end(world, lease if number % 2 else None, job.id, error_code=f"code_{number}", now=late)

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, ended in enumerate(pool.map(attempt, range(16))) if ended]
    assert len(won) == 1
    assert world.job(job.id).error_code == f"code_{won[0]}"
    assert len(outcomes(world)) == 1


def test_without_a_log_a_job_does_not_end(world: World, voice: str) -> None:
    job, lease = begin(world, voice)
    world.break_log()
    with pytest.raises(LogUnavailable):
        end(world, lease, job.id)
    assert world.job(job.id).status == JobStatus.RUNNING


@on_sqlite
def test_a_detection_ends_with_its_finding_and_only_numbers_are_logged(world: World) -> None:
    asked = world.submission(None, kind=JobKind.DETECTION, purpose=None, format=None, input=b"x", request={})
    job = world.admit(asked)
    lease = world.claim(job.id)
    result = {"score": 0.5, "resolution": {"identity": 7}, "segments": [{"start_s": 0.0}], "filename": "Jane.wav"}
    said = {"result": result, "measured": {"verdict": "ours"}}
    assert end(world, lease, job.id, JobStatus.SUCCEEDED, error_code=None, **said)
    assert world.job(job.id).result == result
    (leaf,) = world.leaves("detect:outcome")
    assert leaf["facts"] == {
        "status": "succeeded", "kind": "detection", "attempt": 1, "code": None,
        "score": 0.5, "verdict": "ours",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (JobStatus.RUNNING, {}),
        (JobStatus.QUEUED, {}),
        (JobStatus.FAILED, {"error_code": None}),
        (JobStatus.SUCCEEDED, {}),
        (JobStatus.SUCCEEDED, {"error_code": None}),
        (JobStatus.SUCCEEDED, {"error_code": None, "result": {}}),
        (JobStatus.FAILED, {"output": Output(job_id="x", tenant_id="y")}),
        (JobStatus.SUCCEEDED, {"error_code": None, "output": Output(job_id="x", tenant_id="y")}),
    ],
)
def test_ends_that_contradict_themselves_are_refused(
    small_world: World, status: JobStatus, changes: dict[str, Any]
) -> None:
    """A speech job cannot succeed without its sound, nor with another job's."""
    job, lease = begin(small_world, small_world.voice(small_world.consent()))
    with pytest.raises(ValueError, match=r"end|error|output"):
        end(small_world, lease, job.id, status, **changes)
    with small_world.database.read() as session:
        assert session.get_one(Job, job.id).status == JobStatus.RUNNING
    assert outcomes(small_world) == []

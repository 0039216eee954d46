"""Kill -9 of workers at every point of a job: it ends exactly once, is logged once, and leaves no orphan audio."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.workers.house import LONG, SHORT, WAIT_SECONDS, House

from vivavoce.ledger.tables import JobStatus


@pytest.fixture(params=["files", "redis"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The embedded file transport, and Redis."""
    return f"filesystem://{tmp_path}/bell" if request.param == "files" else request.getfixturevalue("redis_url")


@pytest.mark.parametrize(
    ("database_url", "broker_url", "points"),
    [("sqlite", "files", ["claimed", "generating", "deposited"]), ("postgresql", "redis", ["generating", "deposited"])],
    indirect=["database_url", "broker_url"],
)
def test_a_job_survives_kills(tmp_path: Path, database_url: str, broker_url: str, points: list[str]) -> None:
    """Workers die on one job, each at another point; the next ends it, and a job whose doorbell was lost."""
    house = House(tmp_path, database_url, broker_url, max_attempts=len(points) + 1)
    job_id = house.queue(LONG)
    house.ring(job_id)
    for attempt, point in enumerate(points, start=1):
        with house.worker(crash=point) as worker:
            assert house.exit_of(worker, job_id) == -signal.SIGKILL
        job = house.job(job_id)
        assert (job.status, job.attempt) == (JobStatus.RUNNING, attempt)
        assert house.outcomes(job_id) == []
    assert house.output(job_id) is None
    assert house.store.list(f"outputs/{job_id}") == [f"outputs/{job_id}/{len(points)}"], "the orphan to be swept"
    unheard = house.queue(SHORT)
    with house.worker() as worker:
        assert house.check_one_end(job_id, JobStatus.SUCCEEDED).attempt == len(points) + 1
        assert house.check_one_end(unheard, JobStatus.SUCCEEDED).attempt == 1
        worker.terminate()
        worker.join(WAIT_SECONDS)
        assert worker.exitcode == 0, "an idle worker that is asked to stop ends by itself"

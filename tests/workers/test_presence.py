"""Workers are known while they are idle, missed when they are killed, and gone when they stop."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.workers.house import LONG, SHORT, WAIT_SECONDS, House, now, wait_for

from vivavoce.ledger.tables import JobStatus
from vivavoce.ledger.workers import BEAT, FORGOTTEN, SILENT, Sighting, present, told


def seen(house: House, later: timedelta = timedelta()) -> list[Sighting]:
    with house.database.read() as session:
        return present(session, now() + later)


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_worker_is_idle_busy_gone_or_missed(tmp_path: Path, database_url: str) -> None:
    house = House(tmp_path, database_url, f"filesystem://{tmp_path}/bell", reap_seconds=30.0)
    assert seen(house) == []
    with house.worker() as worker:
        wait_for(lambda: [one.state for one in seen(house)] == ["idle"], "the first beat")
        (idle,) = seen(house)
        assert idle.worker is not None
        assert (idle.worker.device, idle.worker.loaded, idle.worker.slots) == ("cpu", True, house.settings.concurrency)
        assert 0 < idle.worker.free_bytes < idle.worker.memory_bytes
        job_id = house.queue(LONG)
        house.ring(job_id)
        wait_for(lambda: [(one.state, one.jobs) for one in seen(house)] == [("busy", 1)], "the job")
        house.check_one_end(job_id, JobStatus.SUCCEEDED)
        wait_for(lambda: (found := seen(house)[0].worker) is not None and found.seen_at > now() - BEAT, "another beat")
        worker.terminate()
        worker.join(WAIT_SECONDS)
        assert worker.exitcode == 0
        assert seen(house) == []
    with house.worker(crash="generating") as worker:
        job_id = house.queue(SHORT)
        house.ring(job_id)
        house.exit_of(worker, job_id)
        assert [one.id == idle.id for one in seen(house)] == [False], "a worker that was killed leaves its row"
    assert [one.state for one in seen(house, SILENT + BEAT)] == ["silent"]
    with house.database.write() as session:
        (killed,) = present(session, now())
        assert killed.worker is not None
        session.expunge(killed.worker)
        killed.worker.id, killed.worker.seen_at = "another", now() + FORGOTTEN + BEAT
    with house.database.write() as session:
        told(session, killed.worker)
    rows = [one.id for one in seen(house) if one.worker]
    assert rows == ["another"], "the next one that tells forgets those that have long been silent"

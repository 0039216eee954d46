"""How a worker starts and stops: everything loaded or nothing accepted; asked to stop, nothing dropped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.provenance.authority import Authority
from tests.workers.house import LONG, WAIT_SECONDS, House, wait_for

from vivavoce.ledger.tables import JobStatus
from vivavoce.workers.errors import StartError
from vivavoce.workers.host import Host


def test_a_worker_without_marker_weights_ends_at_once(house: House, tmp_path: Path) -> None:
    """No mark, no sound: the real command says why, exits non-zero, and has accepted no job."""
    job_id = house.queue()
    house.ring(job_id)
    empty = tmp_path / "no-weights"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIVAVOCE_")}
    environment |= {"VIVAVOCE_HOME": str(house.settings.home), "VIVAVOCE_MARKER_FOLDER": str(empty)}
    done = subprocess.run(
        [sys.executable, "-m", "vivavoce.cli", "worker"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    assert "watermark" in done.stderr
    assert "Traceback" not in done.stderr
    assert house.job(job_id).status == JobStatus.QUEUED


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("marker_folder", "watermark"),
        ("model_folder", "model"),
        ("keys_dir", "key"),
        ("mark_key", "mark_key"),
        ("database_url", "migrate"),
        ("device", "abacus"),
    ],
)
def test_a_worker_that_lacks_something_says_what(house: House, tmp_path: Path, setting: str, reason: str) -> None:
    broken = {"database_url": f"sqlite:///{tmp_path}/empty.sqlite3", "device": "abacus"}
    value = broken.get(setting, tmp_path / "nothing")
    if setting == "mark_key":  # all keys but the marks' secret, without which nothing can be marked
        setting, value = "keys_dir", shutil.copytree(house.settings.keys_folder, tmp_path / "keys")
        (tmp_path / "keys" / "mark_key.key").unlink()
    with pytest.raises(StartError, match=reason):
        Host.open(house.settings.model_copy(update={setting: value}))


def test_a_worker_whose_certificate_ran_out_does_not_start(house: House, tmp_path: Path) -> None:
    """Nor is another one made in its place."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    files = authority.write(tmp_path, key, authority.leaf(key, -timedelta(days=9), -timedelta(days=1)))
    named = {name: getattr(files, name) for name in ("c2pa_chain", "c2pa_key", "c2pa_roots")}
    with pytest.raises(StartError, match="none leaves unsigned: certificate_expired"):
        Host.open(house.settings.model_copy(update=named))


def test_a_worker_that_is_asked_to_stop_drops_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """With no time left it gives its job back at once; with time, it ends it first."""
    house = House(tmp_path, sqlite_url)
    job_id = house.queue(LONG)
    house.ring(job_id)
    with house.worker(grace_seconds=0.0, reap_seconds=30.0) as worker:
        wait_for(lambda: house.job(job_id).status == JobStatus.RUNNING, "the start")
        worker.terminate()
        worker.join(WAIT_SECONDS)
        assert worker.exitcode == 0
    job = house.job(job_id)
    assert (job.status, job.attempt, job.lease_owner) == (JobStatus.QUEUED, 1, None)
    assert house.outcomes(job_id) == []
    with house.worker(grace_seconds=45.0) as worker:
        wait_for(lambda: house.job(job_id).status == JobStatus.RUNNING, "the second start")
        worker.terminate()
        worker.join(WAIT_SECONDS)
        assert worker.exitcode == 0
    assert house.check_one_end(job_id, JobStatus.SUCCEEDED).attempt == 2

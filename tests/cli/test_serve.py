"""`vivavoce serve` starts only on sound ground, and keeps its worker alive."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vivavoce.cli.first_run import prepare
from vivavoce.cli.serve import serve
from vivavoce.cli.supervisor import Supervisor
from vivavoce.ledger.errors import KeyRingError
from vivavoce.settings import ApiSettings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"VIVAVOCE_DATABASE_URL": "mysql://x"}, "database"),
        ({"VIVAVOCE_OBJECTS_URL": "ftp://x"}, "ftp://x"),
    ],
)
def test_what_settings_name_must_be_there(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    app = typer.Typer()
    app.command()(serve)
    done = CliRunner().invoke(app, ["--port", "1"], env={"VIVAVOCE_HOME": str(tmp_path / "home")} | settings)
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("serve", "VIVAVOCE_WAIT_SECONDS", "soon"),
        ("serve", "VIVAVOCE_MAX_BODY_BYTES", "1"),
        ("worker", "VIVAVOCE_LEASE_SECONDS", "-1"),
        ("worker", "VIVAVOCE_C2PA_CHAIN", "chain.pem"),  # and neither the key nor the roots
        (f"detect {__file__}", "VIVAVOCE_C2PA_CHAIN", "chain.pem"),
    ],
)
def test_wrong_settings_are_told_by_name_and_end_the_command(
    tmp_path: Path, command: str, name: str, value: str
) -> None:
    environment = os.environ | {"VIVAVOCE_HOME": str(tmp_path / "home"), "COLUMNS": "200", name: value}
    words = [sys.executable, "-m", "vivavoce.cli", *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "") and name in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "pydantic" not in done.stderr


def test_a_worker_whose_settings_are_wrong_is_not_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(2)"
    supervisor = Supervisor((sys.executable, "-c", code))
    supervisor.start()
    supervisor._thread.join(timeout=120)
    assert not supervisor._thread.is_alive() and starts.read_text() == "x"
    supervisor.stop()


def test_the_first_key_is_made_once(tmp_path: Path) -> None:
    settings = ApiSettings(home=tmp_path / "home")
    first = prepare(settings)
    assert first is not None
    assert prepare(settings) is None


def test_lost_keys_are_not_replaced(tmp_path: Path) -> None:
    """New ones would lock away for ever what the old ones sealed."""
    settings = ApiSettings(home=tmp_path / "home")
    prepare(settings)
    shutil.rmtree(settings.keys_folder)
    with pytest.raises(KeyRingError):
        prepare(settings)
    assert not settings.keys_folder.exists()
    (settings.keys_folder).mkdir()
    with pytest.raises(KeyRingError):
        prepare(settings)


def _until(path: Path, lines: int) -> list[str]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = path.read_text().split() if path.exists() else []
        if len(found) >= lines:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has no {lines} lines")


def test_a_worker_that_dies_is_started_again_and_stopped_at_the_end(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    script = f"import os, time; open({str(starts)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    supervisor = Supervisor((sys.executable, "-c", script))
    supervisor.start()
    (first,) = _until(starts, 1)
    os.kill(int(first), signal.SIGKILL)
    _, second = _until(starts, 2)
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(int(second), 0)
    time.sleep(1.5)
    assert len(starts.read_text().split()) == 2


def test_stopping_before_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    supervisor = Supervisor((sys.executable, "-c", f"open({str(starts)!r}, 'a').write('x')"))
    supervisor.start()
    supervisor.stop()
    count = len(starts.read_text()) if starts.exists() else 0
    time.sleep(1.5)
    assert (len(starts.read_text()) if starts.exists() else 0) == count

"""The production guide's settings are the code's, and the files in `deploy/` fit both."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from vivavoce.ledger.settings import CoreSettings
from vivavoce.settings import ApiSettings
from vivavoce.workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "production.md"
DEPLOY = ROOT / "deploy"


def rows() -> list[str]:
    """The guide's table as the settings classes say it."""
    readers: dict[str, tuple[type[BaseSettings], str]] = {}
    for settings, reader in ((WorkerSettings, "worker"), (ApiSettings, "API"), (CoreSettings, "both")):
        for name in settings.model_fields:
            readers[name] = settings, reader
    lines = []
    for name, (settings, reader) in sorted(readers.items(), key=lambda one: (one[1][1], one[0])):
        default = settings.model_fields[name].default
        shown = "" if default in (None, "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        lines.append(f"| `VIVAVOCE_{name.upper()}` | {shown} | {reader} |")
    return lines


def test_the_settings_table_is_complete_and_true() -> None:
    table = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `VIVAVOCE_")]
    assert table == rows()


def test_deployed_files_name_settings_and_commands_that_exist() -> None:
    known = {re.findall(r"VIVAVOCE_\w+", row)[0] for row in rows()}
    for path in [GUIDE, *DEPLOY.iterdir()]:
        named = set(re.findall(r"VIVAVOCE_[A-Z0-9_]+", path.read_text()))
        assert named <= known, path
    assert "vivavoce serve --no-worker" in (DEPLOY / "vivavoce-api.service").read_text()
    # Longer than a worker's grace, or systemd kills it in the middle.
    stop = re.search(r"TimeoutStopSec=(\d+)", (DEPLOY / "vivavoce-worker@.service").read_text())
    assert stop is not None and int(stop[1]) > WorkerSettings.model_fields["grace_seconds"].default


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("unit", ["vivavoce-api.service", "vivavoce-worker@0.service"])
def test_units_are_well_formed(unit: str, tmp_path: Path) -> None:
    """As systemd reads them, but for the program, which is not installed here."""
    text = (DEPLOY / unit.replace("@0", "@")).read_text()
    file = tmp_path / unit
    file.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={shutil.which('true')}", text))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert unit not in done.stderr.replace("@.", "@0."), done.stderr

"""One loaded host for the tests that need no process of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.house import House

from vivavoce.workers.host import Host
from vivavoce.workers.jobs import JobRunner


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> House:
    """An installation that many tests share; each makes jobs of its own. Its leases outlive a busy machine."""
    home = tmp_path_factory.mktemp("house")
    shutil.copy(_sqlite_template, home / "ledger.sqlite3")
    return House(home, f"sqlite:///{home}/ledger.sqlite3", lease_seconds=30.0, reap_seconds=30.0)


@pytest.fixture(scope="session")
def runner(house: House) -> Iterator[JobRunner]:
    """A worker's inside: model and marker loaded, no Celery around it."""
    host = Host.open(house.settings)
    yield JobRunner(host)
    host.close()

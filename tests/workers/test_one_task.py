"""One door, on the workers' side: a worker takes one kind of message, and gives nothing back through the broker."""

from __future__ import annotations

import inspect
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import DisabledBackend
from tests.workers.house import SHORT, House

from vivavoce.ledger.tables import JobStatus
from vivavoce.workers import app as worker_app
from vivavoce.workers.jobs import JobRunner
from vivavoce.workers.tasknames import RUN_JOB, producer


def test_a_worker_has_one_task_and_it_returns_nothing(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task returned could travel through a result backend, past the door: it returns nothing, to nobody."""
    celery = producer(house.settings)
    seen: dict[str, Any] = {}

    def start(worker: Any) -> None:
        seen.update({name: task for name, task in worker.app.tasks.items() if not name.startswith("celery.")})

    monkeypatch.setattr(Celery, "Worker", property(lambda app: lambda **_: _Started(app, start)))
    host: Any = SimpleNamespace(
        celery=celery, database=house.database, store=house.store, settings=house.settings, owner="test",
        keyring=house.keyring, model_id="m", marker=SimpleNamespace(model_id="m"), unfinished=SimpleQueue(),
        close=lambda: None,
    )  # fmt: skip
    monkeypatch.setattr(runner, "host", host)
    worker_app.work(runner)
    monkeypatch.undo()
    assert set(seen) == {RUN_JOB}
    task = seen[RUN_JOB]
    assert task.ignore_result and isinstance(celery.backend, DisabledBackend)
    job_id = house.queue(SHORT)
    assert task.apply(args=[job_id]).result is None
    house.check_one_end(job_id, JobStatus.SUCCEEDED)
    assert list(inspect.signature(runner.run).parameters) == ["job_id"]


class _Started:
    """A worker that has all that its application registered, and stops where it would begin to listen."""

    exitcode = 0

    def __init__(self, app: Celery, start: Any) -> None:
        self.app = app
        self._start = start

    def start(self) -> None:
        self._start(self)

"""A worker process of the tests: the product's own worker, which a test may have killed at an exact point of a job.

The points are cut into the process from outside, by replacing one function that the job's way goes through.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

# Imported by the first load of a model and the first start of Celery: here, once for all forks.
import torch._dynamo  # noqa: F401

from vivavoce.workers import courier, jobs
from vivavoce.workers.app import work
from vivavoce.workers.host import Host
from vivavoce.workers.jobs import JobRunner
from vivavoce.workers.logs import configure_logging
from vivavoce.workers.settings import WorkerSettings

GENERATING_SECONDS = 0.15
"""Long enough for the engine to have begun, much shorter than it takes for the long text."""


def main(settings: WorkerSettings, crash: str | None) -> None:
    """Run a worker until it is told to stop, or kills itself."""
    configure_logging("info")
    host = Host.open(settings)
    if crash is not None:
        _CUTS[crash](host)
    sys.exit(work(JobRunner(host)))


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _claimed(_: Host) -> None:
    jobs.authorize_job = die  # type: ignore[assignment]


def _generating(host: Host) -> None:
    submit = host.engine.submit

    def submit_and_die(*args: Any, **kwargs: Any) -> Any:
        future = submit(*args, **kwargs)
        threading.Timer(GENERATING_SECONDS, die).start()
        return future

    host.engine.submit = submit_and_die  # type: ignore[method-assign]


def _deposited(_: Host) -> None:
    jobs.door.commit = die  # type: ignore[assignment]


def _posting(_: Host) -> None:
    courier.send = lambda *given: (post(*given), die())[0]  # type: ignore[assignment]


post = courier.send
_CUTS: dict[str, Callable[[Host], None]] = {
    "claimed": _claimed,
    "generating": _generating,
    "deposited": _deposited,
    "posting": _posting,
}

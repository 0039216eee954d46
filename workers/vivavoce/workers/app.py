"""The Celery side of a worker: one task, which looks at one job."""

from __future__ import annotations

import threading

import structlog
from celery.signals import worker_shutting_down

from vivavoce.workers.courier import Courier
from vivavoce.workers.jobs import JobRunner
from vivavoce.workers.presence import Presence
from vivavoce.workers.reaper import Reaper
from vivavoce.workers.tasknames import RUN_JOB, ring

_log = structlog.get_logger("vivavoce.workers")


def work(runner: JobRunner) -> int:
    """Accept jobs until told to stop (SIGTERM); returns the exit status. Closes the host."""
    host, app = runner.host, runner.host.celery
    # A broker that is away for long must not end the worker.
    app.conf.update(worker_hijack_root_logger=False, broker_connection_max_retries=None)
    app.task(runner.run, name=RUN_JOB)
    reaper = Reaper(host)
    courier = Courier(host.settings, host.database, host.keyring)
    presence = Presence(host)
    worker = app.Worker(
        hostname=f"vivavoce@{host.owner}", pool="threads", concurrency=host.settings.concurrency,
        without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True,
    )  # fmt: skip

    def on_shutdown(**_: object) -> None:
        _log.info("worker_stopping", busy=host.keeper.busy, grace_seconds=host.settings.grace_seconds)
        timer = threading.Timer(host.settings.grace_seconds, host.stopping.set)
        timer.daemon = True
        timer.start()

    worker_shutting_down.connect(on_shutdown, weak=False)
    reaper.start()
    courier.start()
    presence.start()
    _log.info("worker_ready", owner=host.owner, model=host.model_id, marker=host.marker.model_id)
    try:
        worker.start()
    finally:
        worker_shutting_down.disconnect(on_shutdown)
        reaper.close()
        courier.close()
        presence.close()
        while not host.unfinished.empty():
            ring(app, host.unfinished.get())
        host.close()
    _log.info("worker_stopped")
    return int(worker.exitcode or 0)

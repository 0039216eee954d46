"""What the sender of a task must know: its name, its queue, the broker. No torch, nothing of the model.

A message says only "look at job X". The job row in the database holds everything else and is the truth, so a message
that is lost, doubled or late does no harm: workers claim the row, and a reaper rings again for rows left waiting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError, OperationalError

from vivavoce.ledger.settings import CoreSettings

RUN_JOB = "vivavoce.run_job"
JOBS = "vivavoce-jobs"

POLL_SECONDS = 0.1
"""How often a worker looks into the folder of the file transport."""
SEND_SECONDS = 2.0
"""Patience with a server broker before a ring counts as lost; the reaper makes up for it."""

_log = structlog.get_logger("vivavoce.workers")


def celery_config(settings: CoreSettings) -> dict[str, Any]:
    """Give Celery's settings for senders and workers: JSON only, acknowledged late, no results kept."""
    # The default exchange delivers by queue name: no bindings to declare, so none to race for or to lose.
    queue = Queue(JOBS, Exchange(""), routing_key=JOBS)  # type: ignore[no-untyped-call]
    return {
        **_broker(settings.broker_url),
        "task_queues": [queue],
        "task_default_queue": JOBS,
        "task_default_exchange": "",
        "task_default_routing_key": JOBS,
        "task_create_missing_queues": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": SEND_SECONDS,
    }


def producer(settings: CoreSettings) -> Celery:
    """Make the sender's Celery application: it knows names, no code of tasks."""
    app = Celery("vivavoce", set_as_current=False)
    app.conf.update(celery_config(settings))
    return app


def ring(app: Celery, job_id: str) -> bool:
    """Tell the workers that a job waits; call it after the job row is committed.

    False if the broker can't be reached. The job is not lost then: a worker's reaper finds its row.
    """
    try:
        app.send_task(RUN_JOB, args=[job_id], retry=True, retry_policy={"max_retries": 1, "interval_start": 0})
    except (KombuError, OperationalError, OSError) as error:
        _log.warning("ring_lost", job_id=job_id, error=str(error))
        return False
    return True


def _broker(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "filesystem":
        options = {"socket_connect_timeout": SEND_SECONDS} if parts.scheme.startswith("redis") else {}
        return {"broker_url": url, "broker_transport_options": options}
    root = Path(parts.netloc + parts.path)
    queue, taken, control = root / "queue", root / "taken", root / "control"
    for folder in (queue, taken, control):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://localhost/",
        "broker_transport": "vivavoce.workers.doorbell:Transport",
        "broker_transport_options": {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "processed_folder": str(taken),
            "control_folder": str(control),
            "polling_interval": POLL_SECONDS,
        },
    }

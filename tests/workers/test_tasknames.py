"""What senders of tasks rely on: no torch, ids only, no request that waits for a dead broker."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from celery import Celery
from kombu.simple import SimpleQueue

from vivavoce.ledger.settings import CoreSettings
from vivavoce.workers.tasknames import JOBS, RUN_JOB, celery_config, producer, ring


def settings(home: Path, broker_url: str = "") -> CoreSettings:
    return CoreSettings(home=home, broker_url=broker_url)


def messages(app: Celery) -> list[dict[str, object]]:
    """Take all messages from the queue."""
    taken = []
    with app.connection_for_read() as connection:
        queue = SimpleQueue(connection, app.conf.task_queues[0])
        while True:
            try:
                message = queue.get(block=False)
            except queue.Empty:
                return taken
            taken.append({"task": message.headers["task"], "args": message.payload[0], "kwargs": message.payload[1]})
            message.ack()


def test_the_sender_needs_no_torch_and_no_model() -> None:
    """An API host has no torch: nothing that sends a task may import it."""
    code = (
        "import sys, vivavoce.workers.tasknames\n"
        "print([m for m in ('torch', 'vivavoce.model', 'vivavoce.workers.jobs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_message_holds_the_job_id_and_nothing_else(tmp_path: Path) -> None:
    app = producer(settings(tmp_path))
    assert ring(app, "job_1")
    assert messages(app) == [{"task": RUN_JOB, "args": ["job_1"], "kwargs": {}}]


def test_the_same_message_goes_through_redis(tmp_path: Path, redis_url: str) -> None:
    app = producer(settings(tmp_path, redis_url))
    assert ring(app, "job_1")
    assert messages(app) == [{"task": RUN_JOB, "args": ["job_1"], "kwargs": {}}]


def test_only_json_is_taken(tmp_path: Path) -> None:
    config = celery_config(settings(tmp_path))
    assert config["accept_content"] == ["json"]
    assert config["task_serializer"] == "json"
    assert config["result_backend"] is None
    assert config["task_acks_late"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_a_broker_that_is_away_is_told_and_not_waited_for(tmp_path: Path, url: str) -> None:
    began = time.monotonic()
    assert not ring(producer(settings(tmp_path, url)), "job_1")
    assert time.monotonic() - began < 10


def test_many_senders_and_takers_lose_and_double_nothing(tmp_path: Path) -> None:
    """The file transport shows a message only once it is whole, and gives it to one taker."""
    here = settings(tmp_path)
    sent = [f"job_{number}" for number in range(120)]
    takers = [producer(here) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        rings = [pool.submit(ring, producer(here), job_id) for job_id in sent]
        taken = list(pool.map(_take_until_quiet, takers))
        assert all(rung.result() for rung in rings)
    left = messages(producer(here))
    ids = [message["args"][0] for found in [*taken, left] for message in found]  # type: ignore[index]
    assert sorted(ids) == sorted(sent)


def _take_until_quiet(app: Celery) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for _ in range(20):
        found += messages(app)
        time.sleep(0.02)
    return found


def test_an_unreadable_message_is_passed_over(tmp_path: Path) -> None:
    """A file that a full disk cut short must not stop the worker from reading the next one."""
    app = producer(settings(tmp_path))
    folder = tmp_path / "broker" / "queue"
    (folder / f"0_first.{JOBS}.msg").write_text('{"body": "W1')
    assert ring(app, "job_1")
    assert [message["args"] for message in messages(app)] == [["job_1"]]
    assert list(folder.iterdir()) == []


def test_what_lies_in_the_folder_is_plain(tmp_path: Path) -> None:
    """The message file itself: one id, no text, no token."""
    assert ring(producer(settings(tmp_path)), "job_1")
    (file,) = (tmp_path / "broker" / "queue").iterdir()
    body = json.loads(base64.b64decode(json.loads(file.read_text())["body"]))
    assert body[0] == ["job_1"]
    assert body[1] == {}

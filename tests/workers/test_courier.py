"""Webhooks: told once something is true, signed, ids only, to public addresses alone; nothing is lost by a kill."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.consent.world import World
from tests.release.desk import begin, made
from tests.workers.house import House, now, wait_for
from tests.workers.receiver import SECRET, SETTINGS, Receiver
from tests.workers.receiver import receiver as receiver

from vivavoce.ledger.tables import Consent, JobStatus
from vivavoce.ledger.webhooks import Event, WebhookDelivery
from vivavoce.policy.webhooks import (
    Target,
    create_webhook,
    delete_webhook,
    find_webhook,
)
from vivavoce.release.outcome import cancel, finish
from vivavoce.release.withdrawal import erase, withdraw
from vivavoce.workers.courier import ATTEMPTS, Courier


def listen(world: World, url: str, *events: Event, secret: str = SECRET) -> str:
    with world.database.write() as session:
        return create_webhook(
            session, world.log, world.keyring, tenant_id=world.account.tenant_id, actor=world.account.key_id,
            target=Target(url, secret), events=list(events or Event), to_loopback=True, now=now(),
        ).id  # fmt: skip


def courier(world: World) -> Courier:
    return Courier(SETTINGS, world.database, world.keyring)


def deliveries(world: World) -> list[WebhookDelivery]:
    with world.database.read() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.created_at)))


def end(world: World, status: JobStatus, voice: str | None = None) -> str:
    """A job that ends without success, as at a worker."""
    _, lease = begin(world, voice or world.voice(world.consent()), now=now())
    with world.database.write() as session:
        assert finish(session, world.log, lease, lease.job_id, status, error_code="secret_reason", now=now())
    return lease.job_id


def test_each_event_is_told_signed_and_with_ids_only(world: World, receiver: Receiver) -> None:
    listen(world, receiver.url)
    failed, refused = end(world, JobStatus.FAILED), end(world, JobStatus.REFUSED)
    consent = world.consent()
    with world.database.write() as session:
        withdraw(session, world.log, consent, "a private reason", "subject", now())
    job, _ = begin(world, world.voice(world.consent()), now=now())
    with world.database.write() as session:
        cancel(session, world.log, job.id, actor="key", now=now())
    assert courier(world).round(now()) == 3
    told = {event["type"]: event["data"] for event in receiver.events(SECRET)}
    assert set(told) == {"job.failed", "job.refused", "consent.revoked"}
    assert (told["job.failed"]["job"], told["job.refused"]["job"]) == (failed, refused)
    assert told["consent.revoked"] == {"consent": consent}
    for headers, body in receiver.heard:
        assert headers["content-type"] == "application/json" and set(json.loads(body)) == {"type", "timestamp", "data"}
        assert b"secret_reason" not in body and b"private" not in body and b"Jane" not in body
    assert all(one.delivered_at and one.next_at is None and one.attempts == 1 for one in deliveries(world))
    assert courier(world).round(now() + timedelta(days=9)) == 0


def test_a_sound_that_was_made_is_told_by_its_id(world: World, receiver: Receiver) -> None:
    listen(world, receiver.url, Event.JOB_SUCCEEDED)
    consent = world.consent()
    output = made(world, world.voice(consent))
    courier(world).round(now())
    (event,) = receiver.events(SECRET)
    assert event["data"] == {"job": output.job_id, "output": output.id, "consent": consent}


def test_what_did_not_happen_is_not_told(world: World, receiver: Receiver) -> None:
    """Rolled back with its event; and who ends a job second announces nothing."""
    listen(world, receiver.url)
    _, lease = begin(world, world.voice(world.consent()), now=now())
    with pytest.raises(RuntimeError), world.database.write() as session:
        finish(session, world.log, lease, lease.job_id, JobStatus.FAILED, error_code="x", now=now())
        raise RuntimeError
    assert deliveries(world) == []
    for _ in range(2):
        with world.database.write() as session:
            finish(session, world.log, lease, lease.job_id, JobStatus.FAILED, error_code="x", now=now())
    assert len(deliveries(world)) == 1


def test_an_erasure_is_told_like_a_withdrawal(world: World, receiver: Receiver) -> None:
    listen(world, receiver.url, Event.CONSENT_REVOKED)
    consent = world.consent()
    with world.database.read() as session:
        subject = session.get_one(Consent, consent).subject_id
    with world.database.write() as session:
        erase(session, world.log, subject, "subject", now())
    courier(world).round(now())
    assert [event["data"] for event in receiver.events(SECRET)] == [{"consent": consent}]


def test_only_the_tenants_own_events_and_those_asked_for(world: World, receiver: Receiver) -> None:
    listen(world, receiver.url, Event.JOB_REFUSED)
    job_id = end(world, JobStatus.REFUSED)
    end(world, JobStatus.FAILED)
    world.account = world.join("another")
    end(world, JobStatus.REFUSED)
    courier(world).round(now())
    assert [event["data"]["job"] for event in receiver.events(SECRET)] == [job_id]


def test_attempts_back_off_and_end(world: World, receiver: Receiver) -> None:
    """The same message under the same id, each pause three times the one before; redirects are failures, not ways."""
    listen(world, receiver.url)
    end(world, JobStatus.FAILED)
    receiver.answers = [500, 302, 307, 404, 500, 500, 500, 500]
    moment, pauses = now(), []
    for attempt in range(1, ATTEMPTS + 1):
        assert courier(world).round(moment) == 1
        (one,) = deliveries(world)
        assert one.attempts == attempt
        if one.next_at is None:
            break
        assert courier(world).round(one.next_at - timedelta(seconds=1)) == 0
        pauses.append((one.next_at - moment).total_seconds())
        moment = one.next_at
    assert pauses == [60 * 3**attempt for attempt in range(ATTEMPTS - 1)]
    assert (one.attempts, one.last_error, one.delivered_at) == (ATTEMPTS, "status_500", None)
    assert len(receiver.heard) == ATTEMPTS and len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    assert len({body for _, body in receiver.heard}) == 1 and receiver.events(SECRET)


def test_many_couriers_send_one_letter_once(world: World, receiver: Receiver) -> None:
    listen(world, receiver.url)
    jobs = {end(world, JobStatus.FAILED) for _ in range(3)}
    threads = [threading.Thread(target=courier(world).round, args=(now(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event["data"]["job"] for event in receiver.events(SECRET)) == sorted(jobs)


def test_a_deleted_webhook_hears_nothing_more(world: World, receiver: Receiver) -> None:
    hook = listen(world, receiver.url)
    end(world, JobStatus.FAILED)
    with world.database.write() as session:
        found = find_webhook(session, world.account.tenant_id, hook)
        delete_webhook(session, world.log, found, world.account.key_id, now())
        assert found.sealed == b""
    end(world, JobStatus.FAILED)
    assert courier(world).round(now() + timedelta(days=1)) == 0 and receiver.heard == []
    assert [(one.next_at, one.last_error) for one in deliveries(world)] == [(None, "webhook_deleted")]
    assert [leaf["tag"] for leaf in world.leaves("webhook:create", "webhook:delete")] == [
        "webhook:create", "webhook:delete",
    ]  # fmt: skip


def test_a_courier_that_is_killed_loses_nothing(tmp_path: Path, _sqlite_template: Path, receiver: Receiver) -> None:
    """Killed by SIGKILL while the receiver reads: the next worker sends it again, under the same id."""
    shutil.copy(_sqlite_template, tmp_path / "ledger.sqlite3")
    house = House(tmp_path, f"sqlite:///{tmp_path}/ledger.sqlite3")
    listen(house, receiver.url)
    job_id = end(house, JobStatus.FAILED, house.voice_id)
    quick: dict[str, Any] = {"webhooks_to_loopback": True, "courier_pause_seconds": 1.0}
    with house.worker(crash="posting", **quick) as worker:
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
    (one,) = deliveries(house)
    assert (one.attempts, one.delivered_at) == (1, None) and one.next_at is not None
    with house.worker(**quick):
        wait_for(lambda: deliveries(house)[0].delivered_at is not None, "the delivery")
    assert {event["data"]["job"] for event in receiver.events(SECRET)} == {job_id}
    assert {headers["webhook-id"] for headers, _ in receiver.heard} == {one.id}

"""A job's life over HTTP: followed as events across broken connections, and tried again once it has failed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.api.answers import problem
from tests.api.conftest import CLIP, Make
from tests.api.test_jobs import ASYNC, Desk

from vivavoce.api.scopes import Scope
from vivavoce.ledger.lease import advance, claim, give_back
from vivavoce.ledger.tables import Job, JobStage, JobStatus
from vivavoce.policy import admission
from vivavoce.release.outcome import finish


@pytest.fixture
def desk(make: Make) -> Desk:
    return Desk(make(wait_seconds=30))


def events(desk: Desk, job_id: str, last: str | None = None) -> list[dict[str, Any]]:
    """Read a stream to its end, as a browser does: a block of fields each, comments left out."""
    headers = desk.headers | ({} if last is None else {"Last-Event-ID": last})
    answer = desk.installation.client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    read = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [fields | {"data": json.loads(fields["data"])} for fields in read]


def test_a_job_is_followed_to_its_end(desk: Desk) -> None:
    """Each state that lasts is told once, in order, though a worker gives the job back and another takes it."""
    job_id = desk.speak(headers=ASYNC).json()["id"]
    services, now = desk.installation.services, datetime.now(UTC)
    heard: list[dict[str, Any]] = []
    follower = threading.Thread(target=lambda: heard.extend(events(desk, job_id)))
    follower.start()

    def step(call: Any) -> Any:
        threading.Event().wait(0.7)
        with services.database.write() as session:
            return call(session)

    lease = step(lambda session: claim(session, job_id, "one", now, timedelta(minutes=1)))
    assert step(lambda session: advance(session, lease, JobStage.MAKING))
    assert step(lambda session: give_back(session, lease))
    lease = step(lambda session: claim(session, job_id, "two", now, timedelta(minutes=1)))
    assert step(lambda session: advance(session, lease, JobStage.MARKING))
    failed = JobStatus.FAILED
    assert step(lambda session: finish(session, services.log, lease, job_id, failed, error_code="x", now=now))
    follower.join(20)
    assert [event["id"] for event in heard] == [
        "0-queued", "1-running", "1-running-making", "1-queued", "2-running", "2-running-marking", "2-failed",
    ]  # fmt: skip
    assert {event["event"] for event in heard} == {"state"} and heard[0]["retry"] == "1000"
    last = heard[-1]["data"]
    assert (last["job"], last["status"], last["stage"], last["error"]["code"]) == (job_id, "failed", None, "x")


def test_who_reconnects_hears_what_has_changed(make: Make) -> None:
    """A stream ends after the time of a request; the next goes on behind the last event; the end is never missed."""
    desk = Desk(make(wait_seconds=0.4))
    job_id = desk.speak(headers=ASYNC).json()["id"]
    (first,) = events(desk, job_id)
    assert first["id"] == "0-queued"
    assert events(desk, job_id, last=first["id"]) == []
    assert [event["id"] for event in events(desk, job_id, last="nonsense of the caller's")] == ["0-queued"]
    desk.end(job_id, JobStatus.REFUSED, "consent_revoked")
    for last in ("0-queued", "1-refused"):
        (end,) = events(desk, job_id, last)
        assert (end["data"]["status"], end["data"]["error"]["code"]) == ("refused", "consent_revoked")


def test_a_stream_needs_a_job(desk: Desk) -> None:
    """The refusal is an answer with a status, not a stream that says nothing."""
    answer = desk.get("/v1/jobs/job_00000000000000000000000000/events")
    assert answer.status_code == 404 and problem(answer)["code"] == "unknown_job"


def retry(desk: Desk, job_id: str, headers: dict[str, str] | None = None) -> Any:
    return desk.installation.client.post(f"/v1/jobs/{job_id}/retry", headers=headers or desk.headers)


def test_a_failed_job_is_tried_again_as_a_new_one(desk: Desk) -> None:
    """The same request in a new job with its own intent, which names the old one; the old one stays as it ended."""
    job_id = desk.speak("hello", headers=ASYNC, seed=7, language="en").json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    leaves = len(desk.installation.leaves())
    answer = retry(desk, job_id)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert made["id"] != job_id and answer.headers["location"] == f"/v1/jobs/{made['id']}"
    assert (made["status"], made["voice"], made["format"], made["attempts"]) == ("queued", desk.voice, "mp3", 0)
    (intent,) = desk.installation.leaves(leaves)
    assert (intent["tag"], intent["refs"]["job"], intent["refs"]["retries"]) == ("job:intent", made["id"], job_id)
    services = desk.installation.services
    with services.database.read() as session:
        old, new = (session.get_one(admission.Job, one) for one in (job_id, made["id"]))
        requests = [admission.open_request(job, session, services.store, services.keyring) for job in (old, new)]
    assert requests[0] == requests[1] == ({"text": "hello", "format": "mp3", "language": "en", "seed": 7}, None)
    assert (old.status, old.request_sha256) == ("failed", new.request_sha256) and old.grant_token != new.grant_token


def test_a_detection_is_tried_again_with_its_sound(desk: Desk) -> None:
    files = {"file": ("a.flac", CLIP)}
    client = desk.installation.client
    job_id = client.post("/v1/watermark/detect", headers=desk.headers | ASYNC, files=files).json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    made = retry(desk, job_id).json()["id"]
    services = desk.installation.services
    with services.database.read() as session:
        job = session.get_one(admission.Job, made)
        assert admission.open_request(job, session, services.store, services.keyring) == ({}, CLIP)


@pytest.mark.parametrize("status", [None, JobStatus.REFUSED, JobStatus.CANCELLED])
def test_only_failed_jobs_are_tried_again(desk: Desk, status: JobStatus | None) -> None:
    """What safety has refused is never a matter of trying again."""
    job_id = desk.speak(headers=ASYNC).json()["id"]
    if status is JobStatus.CANCELLED:
        assert desk.delete(f"/v1/jobs/{job_id}").status_code == 200
    elif status is not None:
        desk.end(job_id, status, "mark_not_found")
    before = desk.installation.state()
    answer = retry(desk, job_id)
    assert (answer.status_code, problem(answer)["code"]) == (409, "job_not_retryable")
    assert desk.installation.state() == before


def test_consent_and_rules_are_asked_anew(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed since the failed job was let in counts, and the refusal is in the log."""
    job_id = desk.speak("hello", headers=ASYNC).json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    before = desk.installation.state()

    def strict(*_: object) -> str:
        raise admission.PolicyRefused("text_blocked", "a new rule")

    with monkeypatch.context() as patch:
        patch.setattr(admission, "checked_text", strict)
        answer = retry(desk, job_id)
    assert problem(answer)["code"] == "text_blocked"
    consent = desk.get(f"/v1/jobs/{job_id}").json()["consent"]
    assert desk.delete(f"/v1/audio/voice_consents/{consent}").status_code == 200
    answer = retry(desk, job_id)
    assert (answer.status_code, problem(answer)["code"]) == (403, "consent_revoked")
    assert desk.installation.tags()[-2:] == ["job:intent", "job:refuse"]
    assert desk.installation.state() == before
    assert desk.installation.client.post(f"/v1/consents/{consent}/erase", headers=desk.headers).status_code == 200
    answer = retry(desk, job_id)
    assert (answer.status_code, problem(answer)["code"]) == (409, "request_gone")


def test_trying_again_needs_the_right_to_have_made_it(desk: Desk) -> None:
    job_id = desk.speak(headers=ASYNC).json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    for route in ("cancel", "retry"):
        headers = desk.installation.key(Scope.JOBS_READ)
        answer = desk.installation.client.post(f"/v1/jobs/{job_id}/{route}", headers=headers)
        assert (answer.status_code, problem(answer)["code"]) == (403, "missing_scope")


def test_one_retry_per_idempotency_key(desk: Desk) -> None:
    job_id = desk.speak(headers=ASYNC).json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    keyed = desk.headers | {"Idempotency-Key": "again"}
    assert retry(desk, job_id, keyed).json()["id"] == retry(desk, job_id, keyed).json()["id"]


def test_who_waits_is_told_the_place_and_the_time(desk: Desk) -> None:
    """Places follow the order of asking; a time is told once a few jobs have been finished, from how long they took."""
    services = desk.installation.services
    waiting = [desk.speak(headers=ASYNC).json() for _ in range(3)]
    assert [(job["queue_position"], job["estimated_seconds"]) for job in waiting] == [(1, None), (2, None), (3, None)]
    begun = datetime.now(UTC)
    for seconds, job in zip((8, 10, 12), waiting, strict=True):
        with services.database.write() as session:
            row = session.get_one(Job, job["id"])  # as if it had made a sound
            row.status, row.started_at, row.finished_at = JobStatus.SUCCEEDED, begun, begun + timedelta(seconds=seconds)
    assert desk.get(f"/v1/jobs/{waiting[0]['id']}").json()["queue_position"] is None
    running, first, second = (desk.speak(headers=ASYNC).json()["id"] for _ in range(3))
    with services.database.write() as session:
        claim(session, running, "one", datetime.now(UTC) - timedelta(seconds=4), timedelta(minutes=5))
    seen = [desk.get(f"/v1/jobs/{job_id}").json() for job_id in (running, first, second)]
    assert [job["queue_position"] for job in seen] == [None, 1, 2]
    # Ten seconds each: four of them gone, then half of another's, then one more ahead.
    assert [job["estimated_seconds"] for job in seen] == pytest.approx([6, 15, 25], abs=1)


def test_moving_up_is_an_event(desk: Desk) -> None:
    """Who follows a job that waits hears when there is one less before it."""
    before, followed = (desk.speak(headers=ASYNC).json()["id"] for _ in range(2))
    heard: list[dict[str, Any]] = []
    follower = threading.Thread(target=lambda: heard.extend(events(desk, followed)))
    follower.start()
    for job_id in (before, followed):
        threading.Event().wait(0.7)
        desk.end(job_id, JobStatus.FAILED, "x")
    follower.join(20)
    assert [(event["id"], event["data"]["queue_position"]) for event in heard] == [
        ("0-queued", 2), ("0-queued", 1), ("1-failed", None),
    ]  # fmt: skip

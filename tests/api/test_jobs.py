"""Jobs over HTTP: made once per idempotency key, followed, waited for, cancelled, and told apart when they fail."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.api.conftest import CLIP, RECORDING, Installation, Make

from vivavoce.api.scopes import Scope
from vivavoce.ledger.lease import claim
from vivavoce.ledger.tables import Job, JobStatus
from vivavoce.release.outcome import finish

ASYNC = {"Prefer": "respond-async"}


class Desk:
    """A caller with a voice."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.headers = installation.key()
        self.voice = installation.voice(self.headers, installation.consent(self.headers))

    def speak(self, text: str = "hello", headers: dict[str, str] | None = None, **fields: Any) -> Any:
        body = {"voice": self.voice, "input": text} | fields
        return self.installation.client.post("/v1/audio/speech", headers=self.headers | (headers or {}), json=body)

    def get(self, route: str) -> Any:
        return self.installation.client.get(route, headers=self.headers)

    def delete(self, route: str, headers: dict[str, str] | None = None) -> Any:
        return self.installation.client.delete(route, headers=headers or self.headers)

    def end(self, job_id: str, status: JobStatus, code: str, detail: str = "because") -> None:
        """End a job as a worker would."""
        services, now = self.installation.services, datetime.now(UTC)
        with services.database.write() as session:
            lease = claim(session, job_id, "test", now, timedelta(seconds=60))
            finish(session, services.log, lease, job_id, status, error_code=code, error_detail=detail, now=now)


@pytest.fixture
def desk(installation: Installation) -> Desk:
    return Desk(installation)


def test_a_job_at_once(desk: Desk) -> None:
    """202 with the job's address; the doorbell is rung with the id and nothing else."""
    answer = desk.speak(headers=ASYNC, seed=7)
    assert answer.status_code == 202 and answer.headers["preference-applied"] == "respond-async"
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["kind"], job["voice"], job["format"]) == ("queued", "speech", desk.voice, "mp3")
    assert desk.get(answer.headers["location"]).json() == job
    (message,) = (desk.installation.services.settings.home / "broker" / "queue").iterdir()
    assert json.loads(message.read_text())["headers"]["argsrepr"] == repr([job["id"]])
    assert "hello" not in message.read_text()


def test_the_text_is_nowhere_in_the_clear(desk: Desk) -> None:
    text = "quite unmistakable words"
    desk.speak(text, headers=ASYNC)
    for file in desk.installation.services.settings.home.rglob("*"):
        if file.is_file():
            assert text.encode() not in file.read_bytes(), file


def test_the_same_key_and_body_make_one_job(desk: Desk) -> None:
    before = desk.installation.state()["job"]
    keyed = ASYNC | {"Idempotency-Key": "order 66"}
    first, second = desk.speak(headers=keyed), desk.speak(headers=keyed)
    assert first.json()["id"] == second.json()["id"]
    assert desk.installation.state()["job"] == before + 1
    for changed in (desk.speak("goodbye", headers=keyed), desk.speak(headers=keyed, response_format="wav")):
        assert (changed.status_code, changed.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert desk.installation.state()["job"] == before + 1


def test_idempotency_of_uploads_covers_the_sound(desk: Desk) -> None:
    keyed = desk.headers | ASYNC | {"Idempotency-Key": "k"}

    def detect(sound: bytes) -> Any:
        return desk.installation.client.post("/v1/watermark/detect", headers=keyed, files={"file": ("a", sound)})

    assert detect(CLIP).json()["id"] == detect(CLIP).json()["id"]
    answer = detect(RECORDING)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_idempotency_keys_of_tenants_are_apart(desk: Desk) -> None:
    other = Desk(desk.installation)
    other.headers = desk.installation.key(tenant=desk.installation.new_tenant())
    other.voice = desk.installation.voice(other.headers, desk.installation.consent(other.headers))
    keyed = ASYNC | {"Idempotency-Key": "same"}
    assert desk.speak(headers=keyed).json()["id"] != other.speak(headers=keyed).json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 201, b"\xfc"])
def test_bad_idempotency_keys(desk: Desk, key: Any) -> None:
    before = desk.installation.state()
    answer = desk.speak(headers=ASYNC | {"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "idempotency_key_malformed")
    assert desk.installation.state() == before


def test_racing_twins_make_one_job(desk: Desk) -> None:
    keyed = ASYNC | {"Idempotency-Key": "race"}
    before = desk.installation.state()["job"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: desk.speak(headers=keyed), range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert desk.installation.state()["job"] == before + 1


def test_waiting_ends(desk: Desk) -> None:
    """No worker comes: the caller hears where the job is, and is told not to ask for another."""
    answer = desk.speak()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "job_not_finished")
    assert answer.headers["x-should-retry"] == "false"
    job = desk.get(answer.headers["location"]).json()
    assert job["status"] == "queued"
    output = desk.get(f"/v1/jobs/{job['id']}/output")
    assert (output.status_code, output.json()["code"]) == (409, "job_not_finished")


ENDS = [
    (JobStatus.REFUSED, "consent_revoked", 403),
    (JobStatus.REFUSED, "grant_expired", 403),
    (JobStatus.REFUSED, "mark_not_found", 422),
    (JobStatus.FAILED, "too_short", 422),
    (JobStatus.FAILED, "internal_error", 500),
    (JobStatus.FAILED, "attempts_exhausted", 500),
]


@pytest.mark.parametrize(("status", "code", "expected"), ENDS)
def test_how_a_job_ended_is_told(desk: Desk, status: JobStatus, code: str, expected: int) -> None:
    keyed = {"Idempotency-Key": "k"}
    job_id = desk.speak(headers=ASYNC | keyed).json()["id"]
    desk.end(job_id, status, code)
    assert desk.get(f"/v1/jobs/{job_id}").json()["error"] == {"code": code, "detail": "because"}
    output = desk.get(f"/v1/jobs/{job_id}/output")
    assert (output.status_code, output.json()["code"], output.json()["detail"]) == (expected, code, "because")
    waited = desk.speak(headers=keyed)
    assert waited.status_code == (400 if code == "too_short" else expected)
    assert waited.json()["error"]["code"] == code


def test_a_waiting_request_hears_the_end(make: Make) -> None:
    """The job ends while its caller waits; the answer comes then, not at the end of all patience."""
    desk = Desk(make(wait_seconds=30))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(desk.speak)
        while not (jobs := _jobs(desk)):
            time.sleep(0.02)
        desk.end(jobs[0], JobStatus.REFUSED, "consent_revoked")
        answer = waiting.result(timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "consent_revoked")


def _jobs(desk: Desk) -> list[str]:
    with desk.installation.services.database.read() as session:
        return list(session.scalars(select(Job.id)))


def test_cancelling(desk: Desk) -> None:
    job_id = desk.speak(headers=ASYNC).json()["id"]
    leaves = len(desk.installation.leaves())
    answer = desk.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    (outcome,) = desk.installation.leaves(leaves)
    assert (outcome["tag"], outcome["facts"]["status"]) == ("job:outcome", "cancelled")
    assert desk.get(f"/v1/jobs/{job_id}/output").json()["code"] == "cancelled"
    again = desk.delete(f"/v1/jobs/{job_id}")
    assert (again.status_code, again.json()["code"]) == (409, "job_not_cancellable")
    assert len(desk.installation.leaves()) == leaves + 1


@pytest.mark.parametrize("method", ["post", "delete"])
def test_a_running_job_is_cancelled_over_its_workers_head(desk: Desk, method: str) -> None:
    """It ends at once and in the log, with what it was; the worker's word no longer counts."""
    job_id = desk.speak(headers=ASYNC).json()["id"]
    services, moment = desk.installation.services, datetime.now(UTC)
    with services.database.write() as session:
        lease = claim(session, job_id, "worker", moment, timedelta(seconds=60))
    leaves = len(desk.installation.leaves())
    route = f"/v1/jobs/{job_id}" + ("/cancel" if method == "post" else "")
    answer = getattr(desk.installation.client, method)(route, headers=desk.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    (outcome,) = desk.installation.leaves(leaves)
    assert outcome["actor"].startswith("key_")
    assert outcome["facts"] | {"status_before": "running", "code": "cancelled"} == outcome["facts"]
    with services.database.write() as session:
        late = finish(session, services.log, lease, job_id, JobStatus.FAILED, error_code="x", now=moment)
    assert not late and len(desk.installation.leaves()) == leaves + 1
    assert desk.get(f"/v1/jobs/{job_id}/output").json()["code"] == "cancelled"


def test_cancelling_needs_the_right_to_have_made_it(desk: Desk) -> None:
    job_id = desk.speak(headers=ASYNC).json()["id"]
    answer = desk.delete(f"/v1/jobs/{job_id}", headers=desk.installation.key(Scope.JOBS_READ))
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert desk.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_a_foreign_job_is_an_unknown_job(desk: Desk) -> None:
    job_id = desk.speak(headers=ASYNC).json()["id"]
    foreign = desk.installation.key(tenant=desk.installation.new_tenant())
    client = desk.installation.client
    for answer in (
        client.get(f"/v1/jobs/{job_id}", headers=foreign),
        client.get(f"/v1/jobs/{job_id}/output", headers=foreign),
        client.get(f"/v1/jobs/{job_id}/events", headers=foreign),
        client.delete(f"/v1/jobs/{job_id}", headers=foreign),
        client.post(f"/v1/jobs/{job_id}/cancel", headers=foreign),
        client.post(f"/v1/jobs/{job_id}/retry", headers=foreign),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_job")
    assert desk.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"


def test_a_dead_doorbell_loses_no_job(make: Make) -> None:
    """The broker is away: the job is committed all the same, and `readyz` says what is wrong."""
    desk = Desk(make(broker_url="redis://127.0.0.1:1/0"))
    answer = desk.speak(headers=ASYNC)
    assert answer.status_code == 202
    assert desk.get(f"/v1/jobs/{answer.json()['id']}").json()["status"] == "queued"
    ready = desk.get("/readyz")
    assert (ready.status_code, ready.json()["broker"], ready.json()["log"]) == (503, "unavailable", "ok")

"""Usage is what the registry says, on both databases; every answer to a valid key says how much is left to it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.api.answers import problem
from tests.api.conftest import Installation, Make
from tests.api.test_jobs import ASYNC, Desk
from tests.api.test_one_door import work

from vivavoce.ledger.tables import Job, JobStatus, Output


@pytest.fixture
def desk(make: Make, database_url: str) -> Desk:
    """A caller on SQLite and on PostgreSQL."""
    return Desk(make(database_url=database_url))


def usage(desk: Desk, headers: dict[str, str] | None = None, **asked: Any) -> dict[str, Any]:
    answer = desk.installation.client.get("/v1/usage", headers=headers or desk.headers, params=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_what_was_asked_for_is_counted_by_day_and_key(desk: Desk) -> None:
    services = desk.installation.services
    made = [desk.speak(headers=ASYNC, response_format="wav").json()["id"] for _ in range(2)]
    for job_id in made:
        work(services, job_id)
    failed, refused, cancelled, _waiting = (desk.speak(headers=ASYNC).json()["id"] for _ in range(4))
    desk.end(failed, JobStatus.FAILED, "internal_error")
    desk.end(refused, JobStatus.REFUSED, "mark_not_found")
    assert desk.delete(f"/v1/jobs/{cancelled}").status_code == 200
    assert desk.speak("hello", purpose="advertising").status_code == 403
    first_key = desk.headers
    desk.headers = desk.installation.key()
    second = desk.speak(headers=ASYNC).json()["id"]
    with services.database.write() as session:
        key = session.get_one(Job, second).api_key_id
        seconds = sum(output.seconds for output in session.query(Output))
        # The day before yesterday, a minute before midnight in UTC, whatever zone the server keeps.
        moment = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC) - timedelta(days=1, minutes=1)
        session.execute(update(Job).where(Job.id == second).values(created_at=moment))
    found = usage(desk)
    total = {"requests": 8, "succeeded": 2, "refused": 2, "failed": 1, "cancelled": 1}
    assert found["total"] == total | {"seconds": pytest.approx(seconds, abs=0.01)} and seconds > 1
    before, today = found["data"]
    assert (before["day"], before["key"], before["requests"]) == (str(moment.date()), key, 1)
    assert (today["day"], today["requests"], today["refused"]) == (str(datetime.now(UTC).date()), 7, 2)
    assert usage(desk, first_key, key=key)["total"]["requests"] == 1
    assert usage(desk, last_day=str(moment.date()))["data"] == [before]
    assert usage(desk, last_day=str(moment.date() - timedelta(days=1)))["data"] == []
    stranger = desk.installation.key(tenant=desk.installation.new_tenant())
    assert usage(desk, stranger)["data"] == [] and usage(desk, stranger, key=key)["total"]["requests"] == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"first_day": "2026-01-02", "last_day": "2026-01-01"},
        {"first_day": "2025-01-01", "last_day": "2026-01-01"},
        {"first_day": "9999-12-31"},
        {"first_day": "yesterday"},
        {"key": "key_x"},
    ],
)
def test_a_wrong_range_is_refused(shared: Installation, asked: dict[str, str]) -> None:
    answer = shared.client.get("/v1/usage", headers=shared.key(), params=asked)
    assert answer.status_code == 422 and problem(answer)["code"] in ("range_invalid", "invalid_request")


@pytest.mark.parametrize("last_day", [str(date.min), str(date.max)])
def test_the_ends_of_time_break_nothing(shared: Installation, last_day: str) -> None:
    answer = shared.client.get("/v1/usage", headers=shared.key(), params={"last_day": last_day})
    assert answer.status_code in (200, 422)


def test_every_answer_to_a_key_says_what_is_left(make: Make) -> None:
    """Good answers, refusals, and the one that says it was too much; a stranger hears nothing about keys."""
    installation = make(requests_per_minute=4)
    headers = installation.key()
    routes = ["/v1/usage", "/v1/jobs/x", "/v1/no/such/route", "/v1/usage", "/v1/usage"]
    answers = [installation.client.get(route, headers=headers) for route in routes]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 200, 429]
    for answer, left in zip(answers, [3, 2, 1, 0, 0], strict=True):
        assert answer.headers["ratelimit-policy"] == '"requests";q=4;w=60'
        said = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert said is not None and int(said[1]) == left and 0 < int(said[2]) <= 60
        assert answer.headers["x-ratelimit-limit-requests"] == "4"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert answer.headers["x-ratelimit-reset-requests"] == f"{said[2]}s"
    assert "ratelimit" not in installation.client.get("/v1/usage").headers


def test_detection_says_what_is_left_too(installation: Installation) -> None:
    sound = {"file": ("x", b"no sound")}
    answer = installation.client.post("/v1/watermark/detect", headers=installation.key(), files=sound)
    assert answer.status_code == 422 and answer.headers["x-ratelimit-remaining-requests"] == "9999"


def test_a_speakers_link_says_what_is_left_too(make: Make) -> None:
    installation = make()
    headers = installation.key()
    links = f"/v1/consents/{installation.consent(headers)}/links"
    address = installation.client.post(links, headers=headers).json()["address"]
    answer = installation.client.get(address[address.index("/subject/") :])
    assert answer.status_code == 200 and answer.headers["x-ratelimit-remaining-requests"] == "9999"

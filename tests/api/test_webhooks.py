"""Webhooks over HTTP: set, read without their secret, listed with what they were told, deleted; each tenant's own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.answers import problem
from tests.api.conftest import Installation
from tests.api.test_jobs import ASYNC, Desk

from vivavoce.ledger.tables import JobStatus
from vivavoce.policy.webhooks import MOST_WEBHOOKS, new_secret

URL = "https://receiver.example/hook?token=abc"


@pytest.fixture
def desk(installation: Installation) -> Desk:
    return Desk(installation)


def create(desk: Desk, **fields: Any) -> Any:
    return desk.installation.client.post("/v1/webhooks", headers=desk.headers, json={"url": URL} | fields)


def test_a_webhook_from_its_making_to_its_end(desk: Desk) -> None:
    secret, leaves = new_secret(), len(desk.installation.leaves())
    made = create(desk, secret=secret, events=["job.failed"]).json()
    assert made.pop("secret") == secret
    assert desk.get("/v1/webhooks").json()["data"] == [made] == [desk.get(f"/v1/webhooks/{made['id']}").json()]
    assert (made["url"], made["events"]) == (URL, ["job.failed"])
    job_id = desk.speak(headers=ASYNC).json()["id"]
    desk.end(job_id, JobStatus.FAILED, "internal_error")
    route = f"/v1/webhooks/{made['id']}/deliveries"
    (waiting,) = desk.get(route).json()["data"]
    assert waiting["event"] == "job.failed" and waiting["data"]["job"] == job_id
    assert (waiting["attempts"], waiting["delivered_at"]) == (0, None) and waiting["next_at"]
    assert desk.get(f"{route}?after={waiting['id']}").json()["data"] == []
    assert desk.delete(f"/v1/webhooks/{made['id']}").json()["deleted"]
    assert desk.get("/v1/webhooks").json()["data"] == []
    for answer in (desk.get(route), desk.delete(f"/v1/webhooks/{made['id']}")):
        assert (answer.status_code, problem(answer)["code"]) == (404, "unknown_webhook")
    told = [leaf for leaf in desk.installation.leaves(leaves) if leaf["tag"].startswith("webhook:")]
    assert [leaf["refs"] for leaf in told] == [{"webhook": made["id"]}] * 2


def test_url_and_secret_are_nowhere_in_the_clear(desk: Desk) -> None:
    """They let somebody in there: neither the database nor the log shows them."""
    secret = create(desk).json()["secret"]
    for file in desk.installation.services.settings.home.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"receiver.example" not in data and secret.encode() not in data, file


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "http://receiver.example/"}, "url_not_allowed"),
        ({"url": "http://127.0.0.1:8000/"}, "url_not_allowed"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "address_not_public"),
        ({"secret": "hunter2"}, "secret_malformed"),
        ({"events": []}, "invalid_request"),
        ({"events": ["job.begun"]}, "invalid_request"),
        ({"urls": URL}, "invalid_request"),
    ],
)
def test_what_cannot_be_set(desk: Desk, fields: dict[str, Any], code: str) -> None:
    before, leaves = desk.installation.state(), len(desk.installation.leaves())
    answer = create(desk, **fields)
    assert (answer.status_code, problem(answer)["code"]) == (422, code)
    assert desk.installation.state() == before and len(desk.installation.leaves()) == leaves


def test_a_tenant_has_only_so_many(desk: Desk) -> None:
    for _ in range(MOST_WEBHOOKS):
        assert create(desk).status_code == 200
    answer = create(desk)
    assert (answer.status_code, problem(answer)["code"]) == (409, "too_many_webhooks")


def test_a_foreign_webhook_is_an_unknown_webhook(desk: Desk) -> None:
    hook = create(desk).json()["id"]
    own, desk.headers = desk.headers, desk.installation.key(tenant=desk.installation.new_tenant())
    for answer in (
        desk.get(f"/v1/webhooks/{hook}"),
        desk.get(f"/v1/webhooks/{hook}/deliveries"),
        desk.delete(f"/v1/webhooks/{hook}"),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (404, "unknown_webhook")
    assert desk.get("/v1/webhooks").json()["data"] == []
    desk.headers = own
    assert desk.get(f"/v1/webhooks/{hook}").status_code == 200

"""Many requests at once: each stands for itself, each once, whoever asks twice or is killed in the middle."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.api.answers import problem
from tests.api.conftest import CLIP, Make
from tests.api.test_jobs import Desk
from tests.api.test_one_door import work

from vivavoce.api import batching
from vivavoce.api.scopes import Scope
from vivavoce.audit.errors import LogUnavailable

SOUND = base64.b64encode(CLIP).decode()


@pytest.fixture
def desk(make: Make, database_url: str) -> Desk:
    """A caller on SQLite and on PostgreSQL."""
    return Desk(make(database_url=database_url))


def ask(desk: Desk, requests: list[dict[str, Any]], **headers: str) -> Any:
    body = {"requests": requests}
    return desk.installation.client.post("/v1/batches", headers=desk.headers | headers, json=body)


def speech(desk: Desk, text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"type": "speech", "voice": desk.voice, "input": text, "response_format": "wav"} | fields


def conversion(desk: Desk, **fields: Any) -> dict[str, Any]:
    return {"type": "conversion", "voice": desk.voice, "audio": SOUND, "response_format": "wav"} | fields


def test_one_refusal_stops_none_of_the_others(desk: Desk) -> None:
    """Each has its intent, and its job or its refusal; what is made of them is fetched like any other sound."""
    leaves = len(desk.installation.leaves())
    requests = [
        speech(desk, custom_id="first"),
        speech(desk, purpose="advertising", custom_id="no-consent"),
        speech(desk, voice="voice_of_nobody"),
        speech(desk, input="  "),
        conversion(desk, custom_id="converted"),
        conversion(desk, audio=base64.b64encode(b"no sound at all").decode()),
        speech(desk, instructions="whisper"),
        speech(desk, "goodbye", speed=1.5),
    ]
    answer = ask(desk, requests)
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    assert (batch["size"], batch["ended"], batch["counts"]) == (8, False, {"queued": 3, "refused": 5})
    codes = [item["error"] and item["error"]["code"] for item in batch["data"]]
    assert codes == [
        None, "purpose_not_covered", "unknown_voice", "text_empty", None, "not_audio", "instructions_not_supported",
        None,
    ]  # fmt: skip
    assert [item["custom_id"] for item in batch["data"][:2]] == ["first", "no-consent"]
    tags = desk.installation.tags(leaves)
    assert (tags.count("job:intent"), tags.count("job:refuse")) == (7, 4)
    for item in batch["data"]:
        if item["job"]:
            work(desk.installation.services, item["job"])
    batch = desk.get(f"/v1/batches/{batch['id']}").json()
    assert batch["ended"] and batch["counts"] == {"succeeded": 3, "refused": 5}
    for item in batch["data"]:
        if item["output"]:
            assert desk.get(f"/v1/jobs/{item['job']}/output").status_code == 200


def test_each_request_needs_its_own_scope(desk: Desk) -> None:
    requests = [speech(desk), conversion(desk)]
    desk.headers = desk.installation.key(Scope.JOBS_READ, Scope.CONVERSION)
    refused, made = ask(desk, requests).json()["data"]
    assert (refused["job"], refused["error"]["code"], made["status"]) == (None, "missing_scope", "queued")
    assert "auth:refuse" in desk.installation.tags()


def test_the_same_key_and_body_give_the_same_batch(desk: Desk) -> None:
    requests, key = [speech(desk), speech(desk, purpose="advertising")], {"Idempotency-Key": "night"}
    first = ask(desk, requests, **key).json()
    before, leaves = desk.installation.state(), len(desk.installation.leaves())
    assert ask(desk, requests, **key).json() == first
    assert desk.installation.state() == before and len(desk.installation.leaves()) == leaves
    other = ask(desk, requests[:1], **key)
    assert (other.status_code, problem(other)["code"]) == (409, "idempotency_key_reused")
    bad = ask(desk, requests, **{"Idempotency-Key": "x" * 201})
    assert problem(bad)["code"] == "idempotency_key_malformed"
    assert desk.installation.state() == before


def test_twins_at_once_make_each_job_once(desk: Desk) -> None:
    requests = [speech(desk, f"number {number}") for number in range(4)]
    before = desk.installation.state()["job"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(desk, requests, **{"Idempotency-Key": "twins"}), range(4)))
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert desk.installation.state()["job"] == before + 4
    batch = desk.get(f"/v1/batches/{answers[0].json()['id']}").json()
    assert len({item["job"] for item in batch["data"]}) == 4


def test_what_was_broken_off_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log fails in the middle: 503, and the same request does the rest, and nothing of the first part again."""
    requests, key = [speech(desk, f"number {number}") for number in range(3)], {"Idempotency-Key": "storm"}
    admit, done = batching.admit, []

    def failing(*given: Any) -> Any:
        if done:
            raise LogUnavailable("away")
        done.append(1)
        return admit(*given)

    with monkeypatch.context() as patch:
        patch.setattr(batching, "admit", failing)
        assert ask(desk, requests, **key).status_code == 503
    jobs = desk.installation.state()["job"]
    batch = ask(desk, requests, **key).json()
    assert batch["counts"] == {"queued": 3} and desk.installation.state()["job"] == jobs + 2


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [{"type": "detection"}],
        [{"type": "speech", "voice": "v", "input": "x", "custom_id": "a b"}],
        [{"type": "speech", "voice": "v", "input": "x", "speed": 9}],
        [{"type": "conversion", "voice": "v", "audio": "not base 64!"}],
        [{"type": "speech", "voice": "v", "input": "x"}] * 101,
    ],
)
def test_a_malformed_batch_changes_nothing(make: Make, requests: list[dict[str, Any]]) -> None:
    installation = make()
    headers, before = installation.key(), installation.state()
    answer = installation.client.post("/v1/batches", headers=headers, json={"requests": requests})
    assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")
    assert installation.state() == before | {"api_key": before["api_key"]}


def test_a_batch_counts_as_its_requests(make: Make) -> None:
    """No way around the limit of a key: what is not left to it is refused as a whole, before anything is done."""
    desk = Desk(make(requests_per_minute=10))
    desk.headers = desk.installation.key()
    answer = ask(desk, [speech(desk)] * 6)
    assert answer.status_code == 202 and answer.headers["x-ratelimit-remaining-requests"] == "4"
    before = desk.installation.state()
    answer = ask(desk, [speech(desk)] * 6)
    assert (answer.status_code, problem(answer)["code"]) == (429, "rate_limited") and answer.headers["retry-after"]
    assert desk.installation.state() == before
    assert ask(desk, [speech(desk)] * 3).status_code == 202


def test_a_foreign_batch_is_an_unknown_batch(make: Make) -> None:
    desk = Desk(make())
    batch = ask(desk, [speech(desk)]).json()["id"]
    foreign = desk.installation.key(tenant=desk.installation.new_tenant())
    for one in (batch, "batch_00000000000000000000000000", "x"):
        answer = desk.installation.client.get(f"/v1/batches/{one}", headers=foreign)
        assert (answer.status_code, problem(answer)["code"]) == (404, "unknown_batch")

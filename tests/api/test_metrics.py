"""`/metrics` counts truly, opens to nobody else, and says nothing of anybody; every request has an id."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from tests.api.conftest import Installation, Make

TOKEN = "a-token-for-the-monitoring"


def read(installation: Installation, **more: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels."""
    answer = installation.client.get("/metrics", headers=more)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def _labels(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def test_requests_refusals_jobs_and_log_are_counted(installation: Installation) -> None:
    headers = installation.key()
    voice = installation.voice(headers, installation.consent(headers))
    before = read(installation)
    assert installation.client.get("/v1/jobs/x").status_code == 401
    for _ in range(2):
        assert installation.client.get("/v1/jobs/x", headers=headers).status_code == 404
    asked = {"voice": voice, "input": "hello"}
    waiting = headers | {"Prefer": "respond-async"}
    assert installation.client.post("/v1/audio/speech", headers=waiting, json=asked).status_code == 202
    after = read(installation)
    route = _labels(method="GET", route="/v1/jobs/{job_id}", status="404")
    assert after["vivavoce_requests_total", route] == 2
    assert after["vivavoce_requests_total", _labels(method="GET", route="none", status="401")] == 1
    assert after["vivavoce_refusals_total", _labels(code="invalid_api_key")] == 1
    assert after["vivavoce_refusals_total", _labels(code="unknown_job")] == 2
    assert after["vivavoce_jobs", _labels(state="queued")] == 1 + before["vivavoce_jobs", _labels(state="queued")]
    assert after["vivavoce_queue_age_seconds", frozenset()] > 0
    assert after["vivavoce_log_leaves", frozenset()] == len(installation.leaves())


def test_the_head_of_the_log_has_an_age(installation: Installation) -> None:
    assert ("vivavoce_log_head_age_seconds", frozenset()) not in read(installation)
    assert installation.client.get("/readyz").status_code == 200
    found = read(installation)
    assert 0 <= found["vivavoce_log_head_age_seconds", frozenset()] < 60
    assert found["vivavoce_log_head_leaves", frozenset()] == found["vivavoce_log_leaves", frozenset()]


def test_paths_methods_and_texts_of_callers_become_no_labels(installation: Installation) -> None:
    """Else anybody could fill the memory of the monitoring, and write into it."""
    headers = installation.key()
    installation.client.get("/v1/jobs/my-secret-thought", headers=headers)
    installation.client.get("/nowhere/my-secret-thought")
    installation.client.request("MYSECRETTHOUGHT", "/healthz")
    text = installation.client.get("/metrics").text.lower()
    assert "secret" not in text and headers["Authorization"].split("_")[-1].lower() not in text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_without_a_token_only_this_machine_reads(installation: Installation, header: str) -> None:
    """A proxy on the same machine is no way in."""
    assert installation.client.get("/metrics").status_code == 200
    assert installation.client.get("/metrics", headers={header: "127.0.0.1"}).status_code == 403
    for address in ("192.0.2.7", "testclient", "::ffff:192.0.2.7"):
        stranger = TestClient(installation.client.app, client=(address, 1))
        assert stranger.get("/metrics").json()["code"] == "metrics_local_only"


def test_with_a_token_nothing_else_opens(make: Make) -> None:
    installation = make(metrics_token=TOKEN)
    for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": f"Bearer {TOKEN}x"}, installation.key()):
        assert installation.client.get("/metrics", headers=wrong).status_code == 401
    assert read(installation, Authorization=f"Bearer {TOKEN}")
    stranger = TestClient(installation.client.app, client=("192.0.2.7", 1))
    assert stranger.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert TOKEN not in repr(installation.services.settings)


def test_every_answer_has_an_id_of_its_own(installation: Installation) -> None:
    """A caller's own header is not taken for it."""
    answers = [installation.client.get(path, headers={"X-Request-Id": "mine"}) for path in ("/healthz", "/v1/x", "/no")]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3 and all(one.startswith("req_") for one in ids)


def test_an_admitted_job_is_in_the_log_lines_and_its_text_is_not(installation: Installation) -> None:
    headers = installation.key()
    voice = installation.voice(headers, installation.consent(headers))
    asked = {"voice": voice, "input": "the heron stood quite still"}
    with capture_logs() as lines:
        answer = installation.client.post("/v1/audio/speech", headers=headers | {"Prefer": "respond-async"}, json=asked)
        installation.client.get("/v1/audio/voices/x", headers=headers)
    (admitted,) = (line for line in lines if line["event"] == "job_admitted")
    assert admitted["job_id"] == answer.json()["id"] and admitted["leaf"] >= 0
    said = repr(lines)
    assert "heron" not in said and headers["Authorization"].removeprefix("Bearer ") not in said

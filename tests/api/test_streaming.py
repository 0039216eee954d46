"""Sound that is served while it is made, against a worker of the test's own: real marks, real door, no model."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import delete
from tests.api.answers import openai_error, problem
from tests.api.conftest import Installation, Make
from tests.provenance.authority import credential
from tests.release.desk import LABELS, SPOKEN

from vivavoce.api import flow
from vivavoce.api.services import Services
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import claim
from vivavoce.ledger.streams import OutputChunk
from vivavoce.ledger.tables import Job, JobStatus
from vivavoce.release import door
from vivavoce.release.chunks import ChunkMarker
from vivavoce.release.outcome import finish
from vivavoce.release.stream import put
from vivavoce.release.withdrawal import withdraw
from vivavoce.sound import SPEECH_RATE, resample
from vivavoce.watermark import Marker

torch.set_num_threads(1)
WAVE = resample(SPOKEN.samples, SPOKEN.sample_rate, SPEECH_RATE)[: 2 * SPEECH_RATE]
Between = Callable[[Job], None]


@dataclass
class Worker:
    """Streams what it is rung for; `between` is called when the first chunk can be had."""

    installation: Installation
    between: Between = lambda _: None
    threads: list[threading.Thread] = field(default_factory=list)

    def ring(self, _: object, job_id: str) -> bool:
        self.threads.append(threading.Thread(target=self._work, args=(job_id,)))
        self.threads[-1].start()
        return True

    def _work(self, job_id: str) -> None:
        here: Services = self.installation.services
        with here.database.write() as session:
            lease = claim(session, job_id, "test", _now(), timedelta(seconds=60))
            assert lease is not None
            job = session.get_one(Job, job_id)
        if self.between is refusing:
            with here.database.write() as session:
                code, refused = "mark_not_found", JobStatus.REFUSED
                assert finish(session, here.log, lease, job_id, refused, error_code=code, error_detail="x", now=_now())
            return
        made = ChunkMarker(
            SPEECH_RATE,
            job.format,  # type: ignore[arg-type]
            new_id("out"),
            marker=Marker.load(secret=here.keyring.mark_key),
            keyring=here.keyring,
            labels=LABELS,
        )
        chunk = made.feed(np.zeros(0, dtype=np.float32))
        assert chunk is not None
        with here.database.write() as session:
            assert put(session, here.log, here.keyring, lease, chunk, made, _now())
        self.between(job)
        with here.database.read() as session:
            if JobStatus(session.get_one(Job, job_id).status).final:
                return
        if (chunk := made.feed(WAVE)) is not None:
            with here.database.write() as session:
                assert put(session, here.log, here.keyring, lease, chunk, made, _now())
        self._end(made, lease)

    def _end(self, made: ChunkMarker, lease: Any) -> None:
        here = self.installation.services
        marked, last = made.finish(credential())
        with here.database.read() as session:
            deposited = door.deposit(session, here.store, here.keyring, lease, marked)
        with here.database.write() as session:
            assert put(session, here.log, here.keyring, lease, last, made, _now())
            assert door.commit(session, here.log, here.keyring, deposited, _now()) is not None


def refusing(_: Job) -> None:
    """A worker that ends its job before the first chunk."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Desk:
    installation: Installation
    worker: Worker
    headers: dict[str, str]
    consent: str
    voice: str

    def ask(self, **fields: Any) -> Any:
        body = {"voice": self.voice, "input": "hello", "response_format": "wav", "stream_format": "audio"} | fields
        more = {"Idempotency-Key": body.pop("key")} if "key" in body else {}
        return self.installation.client.post("/v1/audio/speech", headers=self.headers | more, json=body)

    def job(self, answer: Any) -> Any:
        job_id = answer.headers["x-vivavoce-job-id"]
        return self.installation.client.get(f"/v1/jobs/{job_id}", headers=self.headers).json()

    def whole(self, answer: Any) -> bytes:
        job_id = answer.headers["x-vivavoce-job-id"]
        return bytes(self.installation.client.get(f"/v1/jobs/{job_id}/output", headers=self.headers).content)

    def withdraw(self, _: Job) -> None:
        here = self.installation.services
        with here.database.write() as session:
            withdraw(session, here.log, self.consent, "stop", "subject", _now())


@pytest.fixture
def desk(make: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    installation = make(wait_seconds=20)
    worker = Worker(installation)
    monkeypatch.setattr(flow, "ring", worker.ring)
    headers = installation.key()
    consent = installation.consent(headers)
    yield Desk(installation, worker, headers, consent, installation.voice(headers, consent))
    for thread in worker.threads:
        thread.join()


def events(answer: Any) -> list[dict[str, Any]]:
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    found = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [kind.removeprefix("event: ") for kind, _ in blocks] == [event["type"] for event in found]
    return found


def test_the_chunks_are_the_output_and_the_log_comes_first(desk: Desk) -> None:
    answer = desk.ask()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-vivavoce-assurance"] == "attested"
    job, whole = desk.job(answer), desk.whole(answer)
    assert (job["status"], job["output"]) == ("succeeded", answer.headers["x-vivavoce-output-id"])
    assert answer.content == whole
    tags = desk.installation.tags()
    assert tags.index("stream:open") < min(tags.index("output:deliver"), tags.index("job:outcome"))
    receipt = desk.installation.client.get(f"/v1/outputs/{job['output']}/receipt", headers=desk.headers).json()
    assert receipt["manifest"] is not None, "a file that has left cannot carry its manifest"


def test_events_are_openais(desk: Desk) -> None:
    answer = desk.ask(stream_format="sse", response_format="mp3")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(answer)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"} and len(deltas) >= 2
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == desk.whole(answer)
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10}


def test_the_route_of_elevenlabs_shape_streams_too(desk: Desk) -> None:
    answer = desk.installation.client.post(
        f"/v1/text-to-speech/{desk.voice}/stream",
        headers=desk.headers,
        params={"output_format": "pcm_24000"},
        json={"text": "hello"},
    )
    assert answer.status_code == 200 and answer.content == desk.whole(answer)
    assert "stream:open" in desk.installation.tags()


def test_what_is_wrong_before_the_first_chunk_is_an_ordinary_problem(desk: Desk) -> None:
    unknown = desk.ask(voice="voice_nobody")
    assert (unknown.status_code, openai_error(unknown)["code"]) == (404, "unknown_voice")
    desk.worker.between = refusing
    refused = desk.ask(stream_format="sse")
    assert (refused.status_code, openai_error(refused)["code"]) == (422, "mark_not_found")
    path = f"/v1/text-to-speech/{desk.voice}/stream"
    shaped = desk.installation.client.post(path, headers=desk.headers, json={"text": "hello"})
    assert (shaped.status_code, problem(shaped)["code"]) == (422, "mark_not_found")


def test_who_waits_in_vain_is_told_and_the_job_is_cancelled(make: Make) -> None:
    installation = make(wait_seconds=0.2)
    headers = installation.key()
    voice = installation.voice(headers, installation.consent(headers))
    body = {"voice": voice, "input": "hello", "stream_format": "audio"}
    answer = installation.client.post("/v1/audio/speech", headers=headers, json=body)
    assert (answer.status_code, openai_error(answer)["code"]) == (504, "stream_not_ready")
    job = installation.client.get(f"/v1/jobs/{answer.headers['x-vivavoce-job-id']}", headers=headers).json()
    assert job["status"] == "cancelled"


def test_a_withdrawal_in_the_middle_breaks_the_answer_off_visibly(desk: Desk) -> None:
    """The first chunk was there and could be had; whether it was, the log says. What follows is an error."""
    desk.worker.between = desk.withdraw
    answer = desk.ask(stream_format="sse")
    outcome = [leaf for leaf in desk.installation.leaves() if leaf["tag"] == "job:outcome"][-1]
    assert outcome["facts"]["code"] == "consent_revoked"
    if outcome["facts"]["left_chunks"] == 0:
        assert (answer.status_code, openai_error(answer)["code"]) == (403, "consent_revoked")
        return
    *deltas, last = events(answer)
    assert [event["type"] for event in deltas] == ["speech.audio.delta"]
    assert (last["type"], last["error"]["code"]) == ("error", "consent_revoked")
    assert outcome["facts"]["left_bytes"] == len(base64.b64decode(deltas[0]["audio"]))


def test_the_same_key_is_streamed_again_and_later_served_as_a_whole(desk: Desk) -> None:
    first, again = desk.ask(key="once"), desk.ask(key="once")
    assert first.content == again.content
    with desk.installation.services.database.write() as session:
        session.execute(delete(OutputChunk))
    later = desk.ask(key="once")
    assert (later.status_code, later.content) == (200, first.content)
    assert len(desk.worker.threads) == 1


def test_a_batch_does_not_stream_and_who_wants_the_job_gets_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"type": "speech", "voice": desk.voice, "input": "hello", "stream_format": "sse"}
    client = desk.installation.client
    batch = client.post("/v1/batches", headers=desk.headers, json={"requests": [item]}).json()
    assert batch["data"][0]["error"]["code"] == "stream_format_not_supported"
    monkeypatch.setattr(flow, "ring", lambda *_: True)
    desk.headers["Prefer"] = "respond-async"
    assert desk.ask().status_code == 202

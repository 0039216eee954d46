"""The whole path against a running service: the unmodified `openai` package and plain HTTP, real worker, real marks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from tests.api.collector import Collector, running_collector
from tests.api.conftest import CLIP, RECORDING, SPEECH, TRANSCRIPT
from tests.api.live import Service, running_service

from vivavoce.audit import merkle
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.sound import MEDIA_TYPES, decode

TEXT = "He might even have been made amiable."
FORMATS = ("wav", "mp3", "opus")
STRANGER = (SPEECH / "goforward.flac").read_bytes()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    settings = collector.settings | {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    with running_service(tmp_path_factory.mktemp("service"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    # No retries: each test sees each answer.
    with openai.OpenAI(base_url=f"{service.address}/v1", api_key=service.key, max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def consent(client: openai.OpenAI) -> str:
    given = client.audio.voice_consents.create(
        language="en", name="Reader of Austen", recording=("consent.flac", RECORDING)
    )
    assert given.object == "audio.voice_consent" and given.name == "Reader of Austen"
    assert given.model_extra is not None and given.model_extra["assurance"] == "attested"
    return given.id


@pytest.fixture(scope="module")
def voice(client: openai.OpenAI, consent: str) -> str:
    voice = client.audio.voices.create(
        name="Austen", audio_sample=("clip.flac", CLIP), consent=consent, extra_body={"transcript": TRANSCRIPT}
    )
    assert voice.object == "audio.voice" and voice.type == "audio_sample"
    return voice.id


@pytest.fixture(scope="module")
def made(client: openai.OpenAI, http: httpx2.Client, voice: str) -> dict[str, Any]:
    """Speech in several formats by the openai package, and a conversion by plain HTTP; answers by name."""
    answers: dict[str, Any] = {}
    for name in FORMATS:
        spoken = client.audio.speech.with_raw_response.create(
            model="vivavoce", voice={"id": voice}, input=TEXT, response_format=name, extra_body={"seed": 1}
        )
        answers[f"speech.{name}"] = (spoken.headers, spoken.content)
    converted = http.post(
        f"/v1/speech-to-speech/{voice}",
        params={"output_format": "wav"},
        files={"audio": ("stranger.flac", STRANGER)},
    )
    assert converted.status_code == 200, converted.text
    answers["conversion.wav"] = (converted.headers, converted.content)
    return answers


def test_the_openai_package_keeps_consents(client: openai.OpenAI, consent: str) -> None:
    consents = client.audio.voice_consents
    assert consent in [item.id for item in consents.list(limit=1)]
    assert consents.update(consent, name="A reader").name == "A reader"
    assert consents.retrieve(consent).name == "A reader"
    spare = consents.create(language="en", name="Spare", recording=("consent.flac", RECORDING))
    assert consents.delete(spare.id).deleted is True


def test_sounds_are_what_their_headers_say(made: dict[str, Any]) -> None:
    for name, (headers, content) in made.items():
        kind = name.partition(".")[2]
        assert headers["content-type"] == MEDIA_TYPES[kind], name
        assert headers["x-vivavoce-assurance"] == "attested" and headers["cache-control"] == "no-store"
        sound = decode(content)
        assert sound.seconds > 0.5, name
    ids = {headers["x-vivavoce-output-id"] for headers, _ in made.values()}
    assert len(ids) == len(made)


def test_the_elevenlabs_package_is_a_client_too(service: Service, voice: str) -> None:
    client = ElevenLabs(base_url=service.address, api_key=service.key, timeout=120)
    spoken = b"".join(client.text_to_speech.convert(voice, text=TEXT, output_format="wav_24000", seed=1))
    assert decode(spoken).sample_rate == 24_000
    streamed = b"".join(client.text_to_speech.stream(voice, text=TEXT, seed=1))
    assert decode(streamed).seconds > 0.5
    converted = client.speech_to_speech.convert(voice, audio=("stranger.flac", STRANGER), output_format="pcm_24000")
    assert len(b"".join(converted)) > 24_000
    with pytest.raises(ApiError) as refused:
        b"".join(client.text_to_speech.convert(voice, text=TEXT, output_format="ulaw_8000"))
    assert refused.value.status_code == 422 and "output_format" in str(refused.value.body)


def test_the_first_bytes_come_before_the_sound_is_made(client: openai.OpenAI, http: httpx2.Client, voice: str) -> None:
    """The openai package, streaming: while the job still runs; what came is found to be this output's."""
    asked = client.audio.speech.with_streaming_response.create(
        model="vivavoce", voice={"id": voice}, input=TEXT, response_format="mp3", stream_format="audio"
    )
    with asked as spoken:
        job = spoken.headers["x-vivavoce-job-id"]
        pieces = spoken.iter_bytes()
        first = next(pieces)
        assert http.get(f"/v1/jobs/{job}").json()["status"] == "running"
        data = first + b"".join(pieces)
    assert data == http.get(f"/v1/jobs/{job}/output").content
    found = http.post("/v1/watermark/detect", files={"file": ("x.mp3", data)}).json()
    assert found["verdict"] == "ours"
    assert found["resolution"]["output"] == spoken.headers["x-vivavoce-output-id"]


def test_events_are_read_with_the_openai_package(client: openai.OpenAI, voice: str) -> None:
    asked = client.audio.speech.with_streaming_response.create(
        model="vivavoce", voice={"id": voice}, input=TEXT, response_format="wav", stream_format="sse"
    )
    with asked as spoken:
        lines = [line.removeprefix("data: ") for line in spoken.iter_lines() if line.startswith("data: ")]
    *deltas, done = map(json.loads, lines)
    assert decode(b"".join(base64.b64decode(event["audio"]) for event in deltas)).seconds > 0.5
    assert done["type"] == "speech.audio.done" and done["usage"]["input_tokens"] == len(TEXT)


def test_who_hangs_up_cancels_the_job(client: openai.OpenAI, http: httpx2.Client, voice: str) -> None:
    asked = client.audio.speech.with_streaming_response.create(
        model="vivavoce", voice={"id": voice}, input=f"{TEXT} {TEXT}", response_format="wav", stream_format="audio"
    )
    with asked as spoken:
        job = spoken.headers["x-vivavoce-job-id"]
        next(spoken.iter_bytes())
    deadline = time.monotonic() + 60
    while (status := http.get(f"/v1/jobs/{job}").json()["status"]) == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == "cancelled"


def test_a_withdrawal_ends_a_sound_in_the_middle(client: openai.OpenAI, http: httpx2.Client) -> None:
    """The body has no end, so that no client takes a part for the whole; and the log says how much had left."""
    consent = client.audio.voice_consents.create(
        language="en", name="Another", recording=("consent.flac", RECORDING)
    ).id
    another = client.audio.voices.create(name="Another", audio_sample=("clip.flac", CLIP), consent=consent)
    asked = client.audio.speech.with_streaming_response.create(
        model="vivavoce", voice={"id": another.id}, input=f"{TEXT} {TEXT}", response_format="wav", stream_format="audio"
    )
    heard = b""
    with asked as spoken:
        job = spoken.headers["x-vivavoce-job-id"]
        pieces = spoken.iter_bytes()
        heard += next(pieces)
        assert client.audio.voice_consents.delete(consent).deleted is True
        with pytest.raises(httpx2.RemoteProtocolError):
            for piece in pieces:
                heard += piece
    assert http.get(f"/v1/jobs/{job}").json()["error"]["code"] == "consent_revoked"
    entries = [item["entry"] for item in http.get("/v1/audit/entries", params={"limit": 500}).json()["data"]]
    (outcome,) = [one for one in entries if one["tag"] == "job:outcome" and one["refs"]["job"] == job]
    assert outcome["facts"]["left_bytes"] >= len(heard) > 0


def test_the_mark_is_in_what_was_made_and_not_in_what_was_recorded(http: httpx2.Client, made: dict[str, Any]) -> None:
    sounds = [(name, content, headers["x-vivavoce-output-id"]) for name, (headers, content) in made.items()]
    originals = [("clip.flac", CLIP, None), ("stranger.flac", STRANGER, None), ("consent.flac", RECORDING, None)]
    for name, content, output_id in [*sounds, *originals]:
        answer = http.post("/v1/watermark/detect", files={"file": (name, content)})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["verdict"] == ("ours" if output_id else "not_detected"), (name, found)
        assert (found["score"] >= found["threshold"]) is bool(output_id)
        if output_id is None:
            assert found["resolution"] is None
            continue
        resolution = found["resolution"]
        assert (resolution["output"], found["candidates"]) == (output_id, [])
        assert resolution["false_attribution"] <= 1e-6
        receipt = http.get(resolution["receipt"]).json()
        assert all(receipt[name] == resolution[name] for name in ("output", "job", "voice", "consent"))


def test_another_tenant_hears_ours_and_not_whose(service: Service, made: dict[str, Any], http: httpx2.Client) -> None:
    from typer.testing import CliRunner

    from vivavoce.cli.keys import app

    words = ["create", "--name", "x", "--scope", "detect", "--scope", "jobs:read", "--new-tenant", "Another"]
    token = CliRunner().invoke(app, words, env={"VIVAVOCE_HOME": str(service.home)}).stdout.strip()
    headers, content = made["speech.wav"]
    with httpx2.Client(base_url=service.address, headers={"Authorization": f"Bearer {token}"}, timeout=120) as other:
        found = other.post("/v1/watermark/detect", files={"file": ("x.wav", content)}).json()
        assert (found["verdict"], found["resolution"], found["candidates"]) == ("ours", None, [])
        output, job = headers["x-vivavoce-output-id"], headers["x-vivavoce-job-id"]
        for route in (f"/v1/outputs/{output}/receipt", f"/v1/jobs/{job}", f"/v1/jobs/{job}/output"):
            assert other.get(route).status_code == 404


def test_a_receipt_proves_itself(service: Service, http: httpx2.Client, made: dict[str, Any]) -> None:
    """With the public key alone: the outcome's leaf names the digest of the very bytes that were served."""
    headers, content = made["speech.mp3"]
    receipt = http.get(f"/v1/outputs/{headers['x-vivavoce-output-id']}/receipt").json()
    assert receipt["sha256"] == hashlib.sha256(content).hexdigest()
    head = Checkpoint.open(receipt["checkpoint"], Verifier.parse(receipt["log_key"]))
    for item in receipt["leaves"]:
        leaf = merkle.leaf_hash(base64.b64decode(item["data"]))
        path = [base64.b64decode(hash_) for hash_ in item["inclusion"]]
        assert merkle.verify_inclusion(leaf, item["index"], head.size, path, head.root)
    intent, outcome = (json.loads(base64.b64decode(item["data"])) for item in receipt["leaves"])
    assert (intent["tag"], outcome["tag"]) == ("job:intent", "job:outcome")
    assert outcome["facts"]["sha256"] == receipt["sha256"]
    assert outcome["refs"]["output"] == receipt["output"] and intent["refs"]["job"] == receipt["job"]


def test_the_same_key_gives_the_same_sound(http: httpx2.Client, voice: str, made: dict[str, Any]) -> None:
    """One job, made once, served twice; and its output can be fetched again."""
    body = {"model": "vivavoce", "voice": voice, "input": TEXT, "response_format": "wav", "seed": 5}
    keyed = {"Idempotency-Key": "once"}
    first = http.post("/v1/audio/speech", json=body, headers=keyed)
    second = http.post("/v1/audio/speech", json=body, headers=keyed)
    assert first.status_code == second.status_code == 200, first.text
    assert first.headers["x-vivavoce-output-id"] == second.headers["x-vivavoce-output-id"]
    again = http.get(f"/v1/jobs/{first.headers['x-vivavoce-job-id']}/output")
    assert first.content == second.content == again.content


def test_one_trace_goes_from_the_request_to_the_release(
    service: Service,
    http: httpx2.Client,
    voice: str,
    collector: Collector,
) -> None:
    """Across two processes and a broker that carries ids alone; the log lines of both name the trace."""
    theirs = "0af7651916cd43dd8448eb211c80319c"
    asked = {"voice": voice, "input": TEXT, "response_format": "wav"}
    answer = http.post("/v1/audio/speech", json=asked, headers={"traceparent": f"00-{theirs}-b7ad6b7169203331-01"})
    assert answer.status_code == 200, answer.text
    job, output = answer.headers["x-vivavoce-job-id"], answer.headers["x-vivavoce-output-id"]
    spans = collector.trace(theirs, 5)
    way = ["POST /v1/audio/speech", "job.submit", "job.run", "release"]
    for parent, child in pairwise(way):
        assert spans[child].parent_span_id == spans[parent].span_id, (parent, child)
    assert spans["model.generate"].parent_span_id == spans["job.run"].span_id
    assert [spans[name].service for name in way] == ["vivavoce-api"] * 2 + ["vivavoce-worker"] * 2
    request, run = spans[way[0]].attributes, spans["job.run"].attributes
    assert (request["http.response.status_code"], request["http.route"]) == (200, "/v1/audio/speech")
    assert request["vivavoce.request_id"] == answer.headers["x-request-id"]
    assert (run["vivavoce.job_id"], run["vivavoce.attempt"]) == (job, 1)
    assert spans["release"].attributes["vivavoce.output_id"] == output
    lines = [line for line in service.said().splitlines() if theirs in line]
    assert any("job_admitted" in line for line in lines) and any("job_succeeded" in line for line in lines)


def test_a_refusal_is_told_by_its_code(http: httpx2.Client, collector: Collector) -> None:
    theirs = "1af7651916cd43dd8448eb211c80319c"
    asked = {"voice": "no-such-voice-of-Jane-Doe", "input": TEXT}
    answer = http.post("/v1/audio/speech", json=asked, headers={"traceparent": f"00-{theirs}-b7ad6b7169203331-01"})
    assert answer.status_code == 404
    # An address may be a secret itself.
    assert http.get("/subject/link-of-Jane-Doe").status_code == 404
    spans = collector.trace(theirs, 2)
    assert spans["POST /v1/audio/speech"].attributes["vivavoce.problem"] == "unknown_voice"
    assert spans["job.submit"].attributes["error.type"] == "ConsentRefused"


def test_errors_are_the_packages_own(service: Service, client: openai.OpenAI, voice: str) -> None:
    def speak(caller: openai.OpenAI = client, **changed: Any) -> Any:
        asked = {"model": "vivavoce", "voice": voice, "input": TEXT} | changed
        return caller.audio.speech.create(**asked)

    with pytest.raises(openai.NotFoundError) as unknown:
        speak(voice="alloy")
    assert unknown.value.code == "unknown_voice"
    with pytest.raises(openai.BadRequestError) as empty:
        speak(input="")
    assert empty.value.code == "text_empty"
    with pytest.raises(openai.BadRequestError) as fast:
        speak(speed=4.5)
    assert (fast.value.code, fast.value.param) == ("invalid_request", "speed")
    with pytest.raises(openai.BadRequestError) as told:
        speak(instructions="Whisper.")
    assert (told.value.code, told.value.param) == ("instructions_not_supported", "instructions")
    stranger = openai.OpenAI(base_url=f"{service.address}/v1", api_key="vv_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        speak(stranger)
    assert refused.value.code == "invalid_api_key"


def test_withdrawal_ends_it_all(client: openai.OpenAI, http: httpx2.Client, made: dict[str, Any], consent: str) -> None:
    """After it: no new sound, no conversion, no second download; and the log says why. Runs last but one."""
    headers, _ = made["speech.wav"]
    job = headers["x-vivavoce-job-id"]
    voice = http.get(f"/v1/jobs/{job}").json()["voice"]
    assert client.audio.voice_consents.delete(consent).deleted is True
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.audio.speech.create(model="vivavoce", voice=voice, input=TEXT)
    assert refused.value.code == "consent_revoked"
    converted = http.post(f"/v1/speech-to-speech/{voice}", files={"audio": ("x.flac", STRANGER)})
    assert (converted.status_code, converted.json()["code"]) == (403, "consent_revoked")
    fetched = http.get(f"/v1/jobs/{job}/output")
    assert (fetched.status_code, fetched.json()["code"]) == (403, "consent_revoked")
    entries = http.get("/v1/audit/entries", params={"limit": 500}).json()["data"]
    tags = [item["entry"]["tag"] for item in entries]
    assert "consent:revoke" in tags
    withheld = [item["entry"] for item in entries if item["entry"]["tag"] == "output:withhold"]
    # One entry for all outputs, with the withdrawal; then one for the download that was tried.
    assert {entry["facts"]["code"] for entry in withheld} == {"consent_revoked"}
    assert [entry["refs"].get("job") for entry in withheld].count(job) == 1


def test_stopping_ends_the_worker_too(service: Service, collector: Collector) -> None:
    """SIGTERM: both processes end by themselves, and the key was printed once. Runs last."""
    worker = re.search(r'vivavoce@[^"]*|"owner": "([^"]+)"', service.said())
    assert worker is not None
    assert service.stop() == 0
    assert "worker_stopped" in service.said() and "worker_killed" not in service.said()
    assert service.said().count(service.key) == 1
    # What was said, and by whom, is nowhere in the lines of a whole run; request, job and leaf are.
    words = (TEXT, TRANSCRIPT, "A reader", "Reader of Austen", "Jane-Doe", service.key)
    assert not any(word in service.said() for word in words[:-1])
    assert collector.bodies and not any(word.encode() in body for word in words for body in collector.bodies)
    assert all(word in service.said() for word in ("request_id", "job_admitted", "job_id", '"leaf": '))

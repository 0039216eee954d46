"""Bad input gets a clear error of the right shape, is logged where it matters, changes nothing, and is never a 500."""

from __future__ import annotations

import json

import pytest
from tests.api.answers import openai_error, problem
from tests.api.conftest import RECORDING, Installation, Make
from tests.api.sounds import bad_sounds

from vivavoce.ledger.ids import new_id

SPEAK = "/v1/audio/speech"
SOUND_CODES = sorted(bad_sounds())


@pytest.fixture(scope="module")
def installation(shared: Installation) -> Installation:
    """One for all tests here: each compares what was before with what is after."""
    return shared


@pytest.fixture(scope="module")
def voice(installation: Installation) -> str:
    headers = installation.key()
    return installation.voice(headers, installation.consent(headers))


@pytest.mark.parametrize("code", SOUND_CODES)
def test_bad_consent_recording(installation: Installation, code: str) -> None:
    headers = installation.key()
    before, leaves = installation.state(), len(installation.leaves())
    answer = installation.client.post(
        "/v1/audio/voice_consents",
        headers=headers,
        data={"name": "Nobody", "language": "en"},
        files={"recording": ("x.wav", bad_sounds()[code])},
    )
    assert (answer.status_code, openai_error(answer)["code"]) == (400, code)
    assert installation.state() == before
    (refusal,) = installation.leaves(leaves)
    assert refusal["tag"] == "consent:refuse" and refusal["facts"] == {"code": code}


@pytest.mark.parametrize("code", SOUND_CODES)
def test_bad_reference_clip(installation: Installation, code: str) -> None:
    headers = installation.key()
    consent = installation.consent(headers)
    before, leaves = installation.state(), len(installation.leaves())
    answer = installation.client.post(
        "/v1/audio/voices",
        headers=headers,
        data={"name": "Nobody", "consent": consent},
        files={"audio_sample": ("x.wav", bad_sounds()[code])},
    )
    assert (answer.status_code, openai_error(answer)["code"]) == (400, code)
    assert installation.state() == before
    (refusal,) = installation.leaves(leaves)
    assert refusal["tag"] == "voice:refuse" and refusal["refs"] == {"consent": consent}


@pytest.mark.parametrize("code", SOUND_CODES)
def test_bad_sound_for_conversion_and_detection(installation: Installation, voice: str, code: str) -> None:
    """They are refused before anything is asked of a consent or a worker, and the log has request and refusal."""
    headers = installation.key()
    before = installation.state()
    intents = {"audio": "job:intent", "file": "detect:intent"}
    for route, field in ((f"/v1/speech-to-speech/{voice}", "audio"), ("/v1/watermark/detect", "file")):
        leaves = len(installation.leaves())
        answer = installation.client.post(route, headers=headers, files={field: ("x.wav", bad_sounds()[code])})
        assert (answer.status_code, problem(answer)["code"]) == (422, code)
        intent, refusal = installation.leaves(leaves)
        assert (intent["tag"], refusal["tag"], refusal["facts"]["code"]) == (intents[field], "job:refuse", code)
    assert installation.state() == before


TEXTS = {
    "text_empty": ["", " \n\t ", "\u200b"],
    "text_too_long": ["a" * 100_000],
    "text_control_characters": ["a\x00b", "a\x1b[31mb", "a\x85b"],
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in TEXTS.items() for text in texts])
def test_bad_text(installation: Installation, voice: str, code: str, text: str) -> None:
    headers = installation.key()
    before, leaves = installation.state(), len(installation.leaves())
    answer = installation.client.post(SPEAK, headers=headers, json={"voice": voice, "input": text, "model": "m"})
    assert (answer.status_code, openai_error(answer)["code"]) == (400, code)
    assert installation.state() == before
    intent, refusal = installation.leaves(leaves)
    assert (intent["tag"], refusal["tag"], refusal["facts"]["code"]) == ("job:intent", "job:refuse", code)


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"voice": "v", "input": NaN}',
    b'{"voice": "v", "input": "\\ud800"}',
    b'{"voice": "v", "input": 5}',
    b'{"voice": {"name": "v"}, "input": "hello"}',
    b'{"voice": "v"}',
    b'{"voice": "v", "input": "hello", "response_format": "exe"}',
    b'{"voice": "v", "input": "hello", "purpose": "fraud"}',
    b'{"voice": "v", "input": "hello", "purpos": "general"}',
    b'{"voice": "v", "input": "hello", "\\ud800": 1}',
    b'{"voice": "v", "input": "hello", "seed": -1}',
    b'{"voice": "v", "input": "hello", "seed": 1e400}',
    b'{"voice": "v", "input": "hello", "language": "english please"}',
    b'{"voice": "v", "input": "hello", "speed": 4.1}',
    b'{"voice": "v", "input": "hello", "stream_format": "mp3"}',
    b'{"voice": "v", "input": "hello", "instructions": "whisper"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_wrong_json(installation: Installation, body: bytes) -> None:
    headers = installation.key() | {"Content-Type": "application/json"}
    before, leaves = installation.state(), len(installation.leaves())
    answer = installation.client.post(SPEAK, headers=headers, content=body)
    assert answer.status_code == 400
    openai_error(answer)
    assert installation.state() == before
    # What is no request at all is not logged; what is one, and is refused, is.
    assert installation.tags(leaves) in ([], ["job:intent", "job:refuse"])


def test_a_body_that_is_not_said_to_be_json_is_not_read_as_json(installation: Installation) -> None:
    headers = installation.key() | {"Content-Type": "text/plain"}
    answer = installation.client.post(SPEAK, headers=headers, content=b'{"voice": "v", "input": "hello"}')
    assert answer.status_code == 400
    openai_error(answer)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": " "}, "name_empty"),
        ({"name": ""}, "invalid_request"),
        ({"name": "x" * 201}, "name_too_long"),
        ({"name": "a\x00b"}, "name_control_characters"),
        ({"language": "tlh"}, "statement_unknown"),
        ({"language": "../en"}, "statement_unknown"),
        ({"languages": "klingon"}, "scope_malformed"),
        ({"territory": "nowhere"}, "scope_malformed"),
        ({"operations": "everything"}, "invalid_request"),
        ({"operations[]": "everything"}, "invalid_request"),
        ({"purposes": "fraud"}, "invalid_request"),
        ({"purpose": "general"}, "invalid_request"),
        ({"expires_in_days": "0"}, "invalid_request"),
        ({"expires_in_days": "99999999999999999999"}, "invalid_request"),
    ],
)
def test_bad_consent_fields(installation: Installation, fields: dict[str, str], code: str) -> None:
    headers = installation.key()
    before = installation.state()
    answer = installation.client.post(
        "/v1/audio/voice_consents",
        headers=headers,
        data={"name": "Somebody", "language": "en"} | fields,
        files={"recording": ("x.flac", RECORDING)},
    )
    assert (answer.status_code, openai_error(answer)["code"]) == (400, code)
    assert installation.state() == before


def test_forms_that_are_none(installation: Installation) -> None:
    headers = installation.key()
    route, voices = "/v1/audio/voice_consents", "/v1/audio/voices"
    two_files = [("recording", ("a", b"1")), ("recording", ("b", b"2"))]
    answers = [
        installation.client.post(route, headers=headers, json={"name": "x"}),
        installation.client.post(route, headers=headers | {"Content-Type": "multipart/form-data"}, content=b"zzz"),
        installation.client.post(route, headers=headers, data={"name": "x", "language": "en", "recording": "text"}),
        installation.client.post(route, headers=headers, files=two_files),
        installation.client.post(
            "/v1/audio/voices", headers=headers, data={"name": "x", "type": "prompt", "prompt": "y"}
        ),
        installation.client.post(voices, headers=headers, data={"name": "x"}),
    ]
    for answer in answers:
        assert answer.status_code == 400
        openai_error(answer)


def test_a_body_that_is_too_large(make: Make) -> None:
    """By its announced length, and when it comes in chunks and announces none."""
    installation = make(max_body_bytes=64 * 1024)
    headers = installation.key() | {"Content-Type": "application/json"}
    body = json.dumps({"voice": "v", "input": "a" * 100_000}).encode()
    chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
    for content in (body, chunks):
        answer = installation.client.post(SPEAK, headers=headers, content=content)
        assert (answer.status_code, openai_error(answer)["code"]) == (413, "body_too_large")
    upload = installation.client.post(
        "/v1/watermark/detect", headers=installation.key(), files={"file": ("x", bytes(100_000))}
    )
    assert (upload.status_code, problem(upload)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("length", ["1" * 30, "1" * 5000])
def test_a_length_that_no_number_holds(installation: Installation, length: str) -> None:
    headers = installation.key() | {"Content-Type": "application/json", "Content-Length": length}
    answer = installation.client.post(SPEAK, headers=headers, content=b"{}")
    assert (answer.status_code, openai_error(answer)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "route",
    [
        "/v1/audio/voices/x",
        "/v1/audio/voice_consents/%00",
        "/v1/jobs/x",
        "/v1/jobs/job_%FF/output",
        "/v1/outputs/out_x/receipt",
        "/v1/audit/proofs/inclusion?index=5&size=100000",
        "/v1/audit/proofs/consistency?old=9&new=3",
        "/v1/nothing/of/the/kind",
        "/v1/audio/nothing",
    ],
)
def test_what_is_not_there(installation: Installation, route: str) -> None:
    answer = installation.client.get(route, headers=installation.key())
    assert answer.status_code == 404
    (openai_error if route.startswith("/v1/audio/") else problem)(answer)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=99999", "limit=x", "after=99999999999999999999999", "tag=no:such", "after=-2"]
)
def test_bad_paging_of_the_log(installation: Installation, query: str) -> None:
    answer = installation.client.get(f"/v1/audit/entries?{query}", headers=installation.key())
    assert (answer.status_code, problem(answer)["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("query", ["after=x", "after=%00", "after=", "limit=0", "limit=101", "limit=1.5"])
def test_bad_paging_of_lists(installation: Installation, query: str) -> None:
    for route in ("/v1/audio/voices", "/v1/audio/voice_consents"):
        answer = installation.client.get(f"{route}?{query}", headers=installation.key())
        assert (answer.status_code, openai_error(answer)["code"]) == (400, "invalid_request")


def test_wrong_methods(installation: Installation) -> None:
    headers = installation.key()
    answer = installation.client.put(SPEAK, headers=headers)
    assert answer.status_code == 405 and openai_error(answer)["code"] == "method_not_allowed"
    assert installation.client.delete(f"/v1/outputs/{new_id('out')}/receipt", headers=headers).status_code == 405

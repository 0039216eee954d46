"""A voice speaks for its own tenant, under a consent that is in force and covers what is asked; else it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.api.answers import openai_error, problem
from tests.api.conftest import CLIP, Installation

from vivavoce.ledger.tables import Consent

SPEAK = "/v1/audio/speech"


@pytest.fixture(scope="module")
def installation(shared: Installation) -> Installation:
    """One for all tests here: each compares what was before with what is after."""
    return shared


@pytest.fixture(scope="module")
def voice(installation: Installation) -> str:
    headers = installation.key()
    return installation.voice(headers, installation.consent(headers))


@pytest.mark.parametrize("voice_id", ["nobody", f"voice_{'0' * 26}", "", "\x00", "\ud800", "x" * 5000])
def test_unknown_voice(installation: Installation, voice_id: str) -> None:
    headers = installation.key()
    before, leaves = installation.state(), len(installation.leaves())
    body = json.dumps({"voice": voice_id, "input": "hello"}).encode()
    answer = installation.client.post(SPEAK, headers=headers | {"Content-Type": "application/json"}, content=body)
    assert (answer.status_code, openai_error(answer)["code"]) == (404, "unknown_voice")
    assert installation.state() == before
    assert installation.tags(leaves) == ["job:intent", "job:refuse"]


def test_a_foreign_voice_is_an_unknown_voice(installation: Installation, voice: str) -> None:
    """Not even that it exists is told; its owner's log entries are not shown either."""
    foreign = installation.key(tenant=installation.new_tenant())
    unknown = f"voice_{'0' * 26}"
    before = installation.state()
    for route, send in {
        "speak": lambda id_: installation.client.post(SPEAK, headers=foreign, json={"voice": id_, "input": "hi"}),
        "convert": lambda id_: installation.client.post(
            f"/v1/speech-to-speech/{id_}", headers=foreign, files={"audio": ("a.flac", CLIP)}
        ),
        "read": lambda id_: installation.client.get(f"/v1/audio/voices/{id_}", headers=foreign),
        "delete": lambda id_: installation.client.delete(f"/v1/audio/voices/{id_}", headers=foreign),
    }.items():
        theirs, nobodys = send(voice), send(unknown)
        assert theirs.status_code == nobodys.status_code == 404, route
        assert theirs.json() == nobodys.json(), route
    assert installation.state() == before
    assert installation.client.get("/v1/audio/voices", headers=foreign).json()["data"] == []


def test_a_foreign_consent_is_an_unknown_consent(installation: Installation) -> None:
    owner = installation.key()
    consent = installation.consent(owner)
    foreign = installation.key(tenant=installation.new_tenant())
    route = f"/v1/audio/voice_consents/{consent}"
    answers = [
        installation.client.get(route, headers=foreign),
        installation.client.post(route, headers=foreign, json={"name": "Mine"}),
        installation.client.delete(route, headers=foreign),
        installation.client.post(
            "/v1/audio/voices",
            headers=foreign,
            data={"name": "Stolen", "consent": consent},
            files={"audio_sample": ("a.flac", CLIP)},
        ),
    ]
    for answer in answers:
        assert (answer.status_code, openai_error(answer)["code"]) == (404, "unknown_consent")
    assert installation.client.get(route, headers=owner).json()["status"] == "verified"


def test_revoked_and_expired_consents_refuse_with_their_reason(installation: Installation) -> None:
    headers = installation.key()
    consents = [installation.consent(headers), installation.consent(headers)]
    voices = [installation.voice(headers, consent) for consent in consents]
    assert installation.client.delete(f"/v1/audio/voice_consents/{consents[0]}", headers=headers).status_code == 200
    with installation.services.database.write() as session:
        past = datetime.now(UTC) - timedelta(days=1)
        session.execute(update(Consent).where(Consent.id == consents[1]).values(expires_at=past))
    before = installation.state()
    for voice, consent, code in zip(voices, consents, ("consent_revoked", "consent_expired"), strict=True):
        leaves = len(installation.leaves())
        spoken = installation.client.post(SPEAK, headers=headers, json={"voice": voice, "input": "hello"})
        assert (spoken.status_code, openai_error(spoken)["code"]) == (403, code)
        converted = installation.client.post(
            f"/v1/speech-to-speech/{voice}", headers=headers, files={"audio": ("a.flac", CLIP)}
        )
        assert (converted.status_code, problem(converted)["code"]) == (403, code)
        founded = installation.client.post(
            "/v1/audio/voices",
            headers=headers,
            data={"name": "x", "consent": consent},
            files={"audio_sample": ("a.flac", CLIP)},
        )
        assert (founded.status_code, openai_error(founded)["code"]) == (403, code)
        assert installation.tags(leaves) == ["job:intent", "job:refuse"] * 2 + ["voice:refuse"]
    assert installation.state() == before


def test_what_a_consent_does_not_cover_is_refused(installation: Installation) -> None:
    headers = installation.key()
    consent = installation.consent(headers, operations="speech", purposes="audiobook", languages="en")
    voice = installation.voice(headers, consent)
    body = {"voice": voice, "input": "hello", "purpose": "audiobook", "language": "en-GB"}

    def speak(**changed: Any) -> str:
        sent = {name: value for name, value in (body | changed).items() if value is not None}
        answer = installation.client.post(SPEAK, headers=headers | {"Prefer": "respond-async"}, json=sent)
        return "admitted" if answer.status_code == 202 else f"{answer.status_code} {openai_error(answer)['code']}"

    assert speak() == "admitted"
    assert speak(purpose=None) == "403 purpose_not_covered"
    assert speak(purpose="advertising") == "403 purpose_not_covered"
    assert speak(language="de") == "403 language_not_covered"
    assert speak(language=None) == "403 language_not_covered"
    converted = installation.client.post(
        f"/v1/speech-to-speech/{voice}",
        headers=headers,
        data={"purpose": "audiobook"},
        files={"audio": ("a.flac", CLIP)},
    )
    assert (converted.status_code, problem(converted)["code"]) == (403, "operation_not_covered")

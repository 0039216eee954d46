"""A speaker comes by a link, without an account: reads, takes along, withdraws, is erased. Nobody else can."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.api.answers import problem
from tests.api.conftest import CLIP, RECORDING, TRANSCRIPT, Installation, Make
from tests.api.test_one_door import work

from vivavoce.audit.documents import Keys
from vivavoce.consent.receipt_check import check_receipt
from vivavoce.ledger.rights import SubjectLink


@pytest.fixture
def headers(installation: Installation) -> dict[str, str]:
    return installation.key()


def link(installation: Installation, headers: dict[str, str], consent: str) -> str:
    answer = installation.client.post(f"/v1/consents/{consent}/links", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["address"])


def queue(installation: Installation, headers: dict[str, str], voice: str) -> str:
    asked = {"voice": voice, "input": "hello", "response_format": "wav"}
    answer = installation.client.post("/v1/audio/speech", headers=headers | {"Prefer": "respond-async"}, json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_speaker_reads_and_takes_along_what_is_theirs(installation: Installation, headers: dict[str, str]) -> None:
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    job = queue(installation, headers, voice)
    work(installation.services, job)
    stranger = installation.consent(headers, name="Somebody Else")
    address = link(installation, headers, consent)
    seen = installation.client.get(address)
    assert seen.headers["cache-control"] == "no-store"
    said = seen.json()
    assert ([given["id"] for given in said["consents"]], said["outputs"]) == ([consent], 1)
    file = zipfile.ZipFile(io.BytesIO(installation.client.get(f"{address}/export").content))
    told = json.loads(file.read("subject.json"))
    (given,) = told["consents"]
    assert (given["id"], given["name"], given["to"]) == (consent, "Reader of Austen", "test")
    assert file.read(given["recording"]) == RECORDING
    (clip,) = given["voices"][0]["clips"]
    assert (file.read(clip["recording"]), clip["transcript"]) == (CLIP, TRANSCRIPT)
    assert (told["made"]["count"], told["made"]["by_purpose"]) == (1, {"general": 1})
    assert {"consent:create", "voice:create", "job:intent", "job:outcome"} <= {entry["tag"] for entry in told["log"]}
    assert stranger not in json.dumps(told) and "Somebody" not in json.dumps(told)
    keys = Keys.of(installation.services.keyring, installation.services.log.origin)
    assert check_receipt(file.read(f"receipts/{consent}.json"), keys).receipt.status == "verified"
    assert installation.tags()[-2:] == ["subject:export", "consent:read"]


def test_withdrawing_is_one_request(installation: Installation, headers: dict[str, str]) -> None:
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    job = queue(installation, headers, voice)
    address = link(installation, headers, consent)
    assert installation.client.post(f"{address}/withdraw").json() == {"withdrawn": [consent]}
    ended = installation.client.get(f"/v1/jobs/{job}", headers=headers).json()
    assert (ended["status"], ended["error"]["code"]) == ("refused", "consent_revoked")
    assert installation.client.post(f"{address}/withdraw").json() == {"withdrawn": []}
    assert installation.client.post(f"{address}/consents/{consent}/withdraw").status_code == 200
    assert installation.tags().count("consent:revoke") == 1


def test_erased_by_the_speaker(installation: Installation, headers: dict[str, str]) -> None:
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    work(installation.services, queue(installation, headers, voice))
    address = link(installation, headers, consent)
    found = installation.client.post(f"{address}/erase").json()
    assert found["deleted"] is True and found["outputs"] == 1
    assert installation.services.store.list() == []
    assert installation.client.post(f"{address}/erase").json()["consents"] == 0
    said = installation.client.get(address).json()
    assert (said["consents"][0]["status"], said["erased_at"] is None) == ("erased", False)
    keys = Keys.of(installation.services.keyring, installation.services.log.origin)
    receipt = installation.client.get(f"{address}/consents/{consent}/receipt")
    assert check_receipt(receipt.content, keys).receipt.status == "erased"
    told = installation.client.get(f"{address}/export")
    assert zipfile.ZipFile(io.BytesIO(told.content)).namelist() == [f"receipts/{consent}.json", "subject.json"]


def test_no_other_link_opens_anything(make: Make) -> None:
    installation = make(refusals_per_minute=8)
    headers = installation.key()
    mine, other = installation.consent(headers), installation.consent(headers)
    address, theirs = link(installation, headers, mine), link(installation, headers, other)
    for answer in (
        installation.client.post(f"{address}/consents/{other}/withdraw"),
        installation.client.get(f"{address}/consents/{other}/receipt"),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (404, "unknown_consent")
    token = address.rpartition("/")[2]
    with installation.services.database.write() as session:
        for row in session.query(SubjectLink):
            assert token not in row.digest
        session.query(SubjectLink).order_by(SubjectLink.id.desc()).first().expires_at = datetime.now(UTC) - timedelta(1)
    assert installation.client.post(f"{address}/close").status_code == 200
    wrong = ["/subject/x", f"/subject/vs_{'A' * 43}", address, theirs, f"{address}/erase"]
    before = installation.state()
    for attempt in wrong:
        answer = installation.client.get(attempt)
        assert (answer.status_code, problem(answer)["code"]) == (404, "link_not_valid"), attempt
    assert installation.state() == before
    refusals = [leaf["facts"] for leaf in installation.leaves() if leaf["tag"] == "auth:refuse"]
    reasons = [fact["reason"] for fact in refusals]
    assert reasons == ["link_unknown", "link_unknown", "link_revoked", "link_expired", "link_revoked"]
    statuses = [installation.client.get("/subject/x").status_code for _ in range(5)]
    assert statuses == [404, 404, 404, 429, 429]
    for file in installation.services.settings.home.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file


def test_suspended_and_lifted(installation: Installation, headers: dict[str, str]) -> None:
    """What an admin suspends the tenant cannot lift; while it is suspended nothing is admitted."""
    own = installation.key(*(set(installation_scopes()) - {"admin"}))
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)

    def ask(who: dict[str, str], what: str) -> Any:
        return installation.client.post(f"/v1/consents/{consent}/{what}", headers=who, json={"reason": "Jane asked"})

    assert ask(own, "suspend").json()["status"] == "suspended"
    spoken = installation.client.post("/v1/audio/speech", headers=headers, json={"voice": voice, "input": "hi"})
    assert spoken.json()["error"]["code"] == "consent_suspended"
    assert ask(own, "lift").json()["status"] == "verified"
    assert ask(headers, "suspend").json()["status"] == "suspended"
    refused = ask(own, "lift")
    assert (refused.status_code, problem(refused)["code"]) == (403, "suspended_by_admin")
    assert ask(headers, "lift").json()["status"] == "verified"
    assert ask(headers, "lift").json()["status"] == "verified"
    tags = [tag for tag in installation.tags() if tag in ("consent:suspend", "consent:lift")]
    assert tags == ["consent:suspend", "consent:lift"] * 2
    assert "Jane" not in json.dumps(installation.leaves())


def installation_scopes() -> list[str]:
    from vivavoce.api.scopes import Scope

    return list(Scope)


def test_a_renewal_is_a_new_word_that_takes_the_voices_over(
    installation: Installation, headers: dict[str, str]
) -> None:
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)

    def renew() -> Any:
        return installation.client.post(
            f"/v1/consents/{consent}/renew", headers=headers, data={"language": "en", "purposes": ["audiobook"]},
            files={"recording": ("again.flac", RECORDING)},
        )  # fmt: skip

    new = renew().json()
    assert (new["name"], new["purposes"]) == ("Reader of Austen", ["audiobook"])
    kept = installation.client.get(f"/v1/audio/voices/{voice}", headers=headers).json()
    assert kept["consent"] == new["id"] != consent
    created = [leaf["refs"] for leaf in installation.leaves() if leaf["tag"] == "consent:create"]
    assert (created[1]["renews"], created[1]["subject"]) == (consent, created[0]["subject"])
    again = renew()
    assert (again.status_code, problem(again)["code"]) == (409, "already_renewed")
    installation.client.delete(f"/v1/audio/voice_consents/{new['id']}", headers=headers)
    asked = {"voice": voice, "input": "hi", "purpose": "audiobook"}
    spoken = installation.client.post("/v1/audio/speech", headers=headers, json=asked)
    assert spoken.json()["error"]["code"] == "consent_revoked"


def test_a_guardian_consents_for_a_minor(installation: Installation, headers: dict[str, str]) -> None:
    """Five years at most; the guardian's name is sealed, and in the export."""
    answer = installation.client.post(
        "/v1/audio/voice_consents", headers=headers, files={"recording": ("c.flac", RECORDING)},
        data={"name": "Child", "language": "en", "guardian": "Mother", "expires_in_days": 1827},
    )  # fmt: skip
    assert answer.json()["error"]["code"] == "lifetime_out_of_range"
    consent = installation.consent(headers, guardian="Mother", guardian_relationship="parent", expires_in_days=1096)
    created = next(leaf for leaf in installation.leaves() if leaf["tag"] == "consent:create")
    assert (created["facts"]["guardian"], created["facts"]["guardian_assurance"]) == ("parent", "attested")
    assert "Mother" not in json.dumps(installation.leaves())
    file = installation.client.get(f"{link(installation, headers, consent)}/export").content
    told = json.loads(zipfile.ZipFile(io.BytesIO(file)).read("subject.json"))
    assert told["consents"][0]["guardian"] == "Mother"

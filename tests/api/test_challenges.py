"""Verified consents over HTTP: asked for, answered once, followed until a worker has listened."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from tests.api.conftest import RECORDING, Installation
from tests.api.test_one_door import accept

from vivavoce.ledger.rights import Invitation, Verification

ASKED = {"name": "Jane Reader", "language": "en", "expires_in_days": 30}


def drawn(installation: Installation, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = installation.client.post("/v1/consents/challenges", headers=headers, json=ASKED | fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def handed_in(installation: Installation, headers: dict[str, str], challenge: str, data: bytes = RECORDING) -> Any:
    return installation.client.post(
        "/v1/consents", headers=headers, data={"challenge": challenge}, files={"recording": ("a.flac", data)}
    )


def test_a_challenge_shows_what_is_signed_and_is_answered_once(installation: Installation) -> None:
    headers = installation.key()
    shown = drawn(installation, headers)
    assert "Jane Reader" in shown["text"] and all(word in shown["text"] for word in shown["words"])
    assert "biometric" in shown["notice"]
    answer = handed_in(installation, headers, shown["id"])
    assert answer.status_code == 202, answer.text
    waiting = answer.json()
    assert (waiting["verdict"], waiting["consent"]["status"]) == (None, "pending")
    assert waiting["consent"]["assurance"] == "challenge" and waiting["thresholds"]["most_distance"] == 0.25
    seen = installation.client.get(f"/v1/consents/{waiting['consent']['id']}/verification", headers=headers).json()
    assert seen == waiting
    again = handed_in(installation, headers, shown["id"])
    assert (again.status_code, again.json()["code"]) == (409, "challenge_used")
    job = installation.client.get(f"/v1/jobs/{waiting['job']}", headers=headers).json()
    assert (job["kind"], job["status"], job["detection"]) == ("verification", "queued", None)


def test_a_bad_recording_costs_no_challenge_and_is_logged(installation: Installation) -> None:
    headers = installation.key()
    shown, leaves = drawn(installation, headers), len(installation.leaves())
    bad = handed_in(installation, headers, shown["id"], b"not a sound")
    assert bad.status_code == 422
    assert installation.leaves(leaves)[-1]["tag"] == "challenge:refuse"
    assert handed_in(installation, headers, shown["id"]).status_code == 202


def test_a_pending_consent_founds_no_voice(installation: Installation) -> None:
    headers = installation.key()
    consent = handed_in(installation, headers, drawn(installation, headers)["id"]).json()["consent"]["id"]
    answer = installation.client.post(
        "/v1/audio/voices", headers=headers, data={"name": "x", "consent": consent},
        files={"audio_sample": ("a.flac", RECORDING)},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "consent_pending")


def test_what_cannot_be_asked_is_refused_by_name(installation: Installation) -> None:
    headers = installation.key()
    for wrong, code in (
        ({"language": "xx"}, "statement_unknown"),
        ({"expires_in_days": 3000}, "lifetime_out_of_range"),
    ):
        answer = installation.client.post("/v1/consents/challenges", headers=headers, json=ASKED | wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    unknown = handed_in(installation, headers, "chal_none")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_challenge")
    attested = installation.consent(headers)
    none = installation.client.get(f"/v1/consents/{attested}/verification", headers=headers)
    assert (none.status_code, none.json()["code"]) == (404, "no_verification")


def test_an_invited_speaker_ends_with_a_link_of_their_own_and_only_once(installation: Installation) -> None:
    client, headers = installation.client, installation.key()
    invited = client.post("/v1/consents/invitations", headers=headers, json=ASKED).json()
    address = invited["address"]
    assert client.post(f"{address}/finish").status_code == 403
    challenge = client.post(f"{address}/challenge").json()["challenge"]
    body: dict[str, Any] = {"data": {"challenge": challenge}, "files": {"recording": ("a.flac", RECORDING)}}
    assert client.post(f"{address}/recording", **body).status_code == 202
    leaves = len(installation.leaves())
    assert client.post(f"{address}/recording", **body).json()["code"] == "challenge_used"
    refusal = installation.leaves(leaves)[-1]
    assert (refusal["tag"], refusal["actor"]) == ("challenge:refuse", f"invited:{invited['id']}")
    assert client.get(f"{address}/state").json()["verdict"] is None
    assert client.post(f"{address}/finish").status_code == 403
    accept(installation, invited["id"])
    own = client.post(f"{address}/finish").json()["address"]
    assert client.get(own).json()["consents"][0]["status"] == "verified"
    leaves = len(installation.leaves())
    assert client.post(f"{address}/finish").json()["code"] == "link_not_valid"
    (refusal,) = installation.leaves(leaves)
    assert refusal["facts"] == {"reason": "link_revoked", "area": "/speak/"}


def test_all_attempts_of_an_invited_speaker_are_theirs_to_see_and_to_erase(installation: Installation) -> None:
    client = installation.client
    invited = client.post("/v1/consents/invitations", headers=installation.key(), json=ASKED).json()
    for _ in range(2):
        challenge = client.post(f"{invited['address']}/challenge").json()["challenge"]
        body: dict[str, Any] = {"data": {"challenge": challenge}, "files": {"recording": ("a.flac", RECORDING)}}
        assert client.post(f"{invited['address']}/recording", **body).status_code == 202
    accept(installation, invited["id"])
    own = client.post(f"{invited['address']}/finish").json()["address"]
    assert [consent["status"] for consent in client.get(own).json()["consents"]] == ["pending", "verified"]
    file = zipfile.ZipFile(io.BytesIO(client.get(f"{own}/export").content))
    first, second = (consent["verification"] for consent in json.loads(file.read("subject.json"))["consents"])
    assert "Jane Reader" in first["shown"]["text"] and first["shown"]["words"] != second["shown"]["words"]
    assert "biometric" in second["shown"]["notice"] and second["thresholds"]["least_words_likeness"] == 0.65
    assert client.post(f"{own}/erase").json()["consents"] == 2
    file = zipfile.ZipFile(io.BytesIO(client.get(f"{own}/export").content))
    assert "Jane Reader" not in file.read("subject.json").decode()


def test_erasure_forgets_whom_an_invitation_was_for(installation: Installation) -> None:
    """The name in it is not under the speaker's own key."""
    client, headers = installation.client, installation.key()
    invited = client.post("/v1/consents/invitations", headers=headers, json=ASKED).json()
    challenge = client.post(f"{invited['address']}/challenge").json()["challenge"]
    body: dict[str, Any] = {"data": {"challenge": challenge}, "files": {"recording": ("a.flac", RECORDING)}}
    client.post(f"{invited['address']}/recording", **body)
    with installation.services.database.read() as session:
        consent = session.get_one(Invitation, invited["id"]).consent_id
    assert client.post(f"/v1/consents/{consent}/erase", headers=headers).status_code == 200
    with installation.services.database.read() as session:
        assert session.get_one(Invitation, invited["id"]).sealed == b""
        assert session.get_one(Verification, consent).text_sealed == b""

"""Consents, voices and the log over HTTP, where everything goes well."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.api.conftest import RECORDING, Installation, Make

from vivavoce.api.scopes import Scope
from vivavoce.audit import merkle
from vivavoce.audit.notes import Checkpoint, Verifier


def test_the_life_of_a_consent(installation: Installation) -> None:
    headers, client = installation.key(), installation.client
    answer = client.post(
        "/v1/audio/voice_consents",
        headers=headers,
        data={
            "name": "Ada Ünlü",
            "language": "en",
            "operations[]": ["speech"],
            "purposes": ["audiobook", "education"],
            "languages[]": "en",
            "territory": "DE",
            "commercial": "true",
            "expires_in_days": "30",
        },
        files={"recording": ("consent.flac", RECORDING, "audio/flac")},
    )
    assert answer.status_code == 200, answer.text
    consent = answer.json()
    assert (consent["object"], consent["name"], consent["status"]) == ("audio.voice_consent", "Ada Ünlü", "verified")
    assert (consent["assurance"], consent["operations"], consent["commercial"]) == ("attested", ["speech"], True)
    assert (consent["purposes"], consent["languages"]) == (["audiobook", "education"], ["en"])
    route = f"/v1/audio/voice_consents/{consent['id']}"
    assert client.get(route, headers=headers).json() == consent
    renamed = client.post(route, headers=headers, json={"name": "Ada Lovelace"}).json()
    assert renamed == consent | {"name": "Ada Lovelace"}
    gone = client.delete(route, headers=headers)
    assert (gone.status_code, gone.json()["deleted"]) == (200, True)
    assert client.delete(route, headers=headers).status_code == 200
    read = client.get(route, headers=headers).json()
    assert read["status"] == "revoked" and read["revoked_at"]
    assert installation.tags()[-5:] == [
        "consent:create",
        "consent:read",
        "consent:update",
        "consent:revoke",
        "consent:read",
    ]
    assert not any("Ada" in str(leaf) for leaf in installation.leaves())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_same_on_postgresql(make: Make, database_url: str) -> None:
    """What SQLite does not mind and PostgreSQL does: types, locks, read-only snapshots, NUL in texts."""
    installation = make(database_url=database_url)
    headers, client = installation.key(), installation.client
    assert client.get("/readyz").status_code == 200
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    for route in ("/v1/audio/voices/%00", "/v1/jobs/%00", "/v1/outputs/%00/receipt", "/v1/audio/voice_consents/%00"):
        assert client.get(route, headers=headers).status_code == 404
    said = {"voice": voice, "input": "hello"}
    keyed = headers | {"Prefer": "respond-async", "Idempotency-Key": "once"}
    first, second = (client.post("/v1/audio/speech", headers=keyed, json=said) for _ in range(2))
    assert first.status_code == 202 and first.json()["id"] == second.json()["id"]
    assert client.delete(f"/v1/jobs/{first.json()['id']}", headers=headers).json()["status"] == "cancelled"
    renamed = client.post(f"/v1/audio/voice_consents/{consent}", headers=headers, json={"name": "New"})
    assert renamed.json()["name"] == "New"
    assert client.get("/v1/audio/voice_consents?limit=1", headers=headers).json()["data"][0]["id"] == consent
    assert client.delete(f"/v1/audio/voices/{voice}", headers=headers).status_code == 200
    assert client.delete(f"/v1/audio/voice_consents/{consent}", headers=headers).status_code == 200
    assert client.get("/v1/audio/voices", headers={"Authorization": "Bearer vv_x"}).status_code == 401
    assert client.get("/v1/audit/entries?limit=500", headers=headers).json()["data"]


def test_pages_are_whole_and_do_not_overlap(installation: Installation) -> None:
    headers, client = installation.key(), installation.client
    consents = [installation.consent(headers) for _ in range(5)]
    voices = [installation.voice(headers, consents[0]) for _ in range(5)]
    for route, ids in (("/v1/audio/voice_consents", consents), ("/v1/audio/voices", voices)):
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 2}
        while True:
            page = client.get(route, headers=headers, params=params).json()
            assert len(page["data"]) <= 2
            seen += [item["id"] for item in page["data"]]
            if not page["has_more"]:
                break
            params["after"] = page["last_id"]
        assert sorted(seen) == sorted(ids) and len(seen) == len(set(seen))


def test_the_life_of_a_voice(installation: Installation) -> None:
    headers, client = installation.key(), installation.client
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    route = f"/v1/audio/voices/{voice}"
    view = client.get(route, headers=headers).json()
    assert (view["object"], view["type"], view["consent"]) == ("audio.voice", "audio_sample", consent)
    assert client.delete(route, headers=headers).json()["deleted"] is True
    for answer in (client.get(route, headers=headers), client.delete(route, headers=headers)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "voice_deleted")
    spoken = client.post("/v1/audio/speech", headers=headers, json={"voice": voice, "input": "hello"})
    assert (spoken.status_code, spoken.json()["error"]["code"]) == (404, "voice_deleted")
    assert client.get("/v1/audio/voices", headers=headers).json()["data"] == []


def test_the_log_is_read_by_its_tenant_and_whole_by_an_admin(installation: Installation) -> None:
    mine, foreign = installation.key(*(set(Scope) - {Scope.ADMIN})), installation.new_tenant()
    theirs = installation.key(tenant=foreign)
    installation.consent(mine)
    installation.consent(theirs)
    client = installation.client
    own = client.get("/v1/audit/entries", headers=mine).json()
    assert own["data"] and {item["entry"]["tenant"] for item in own["data"]} == {installation.tenant}
    leaves = len(installation.leaves())
    whole = client.get("/v1/audit/entries", headers=theirs).json()
    assert [item["index"] for item in whole["data"]] == list(range(leaves + 1))
    assert whole["data"][-1]["entry"]["tag"] == "log:read"
    only = client.get("/v1/audit/entries?tag=consent:create", headers=mine).json()
    assert [item["entry"]["tag"] for item in only["data"]] == ["consent:create"]


def test_entries_page_by_key(installation: Installation) -> None:
    headers = installation.key(*(set(Scope) - {Scope.ADMIN}))
    for _ in range(3):
        installation.consent(headers)
    expected = [leaf["index"] for leaf in installation.leaves() if leaf["tenant"] == installation.tenant]
    seen: list[int] = []
    after, more = -1, True
    while more:
        page = installation.client.get(f"/v1/audit/entries?limit=2&after={after}", headers=headers).json()
        seen += [item["index"] for item in page["data"]]
        after, more = seen[-1], page["has_more"]
    assert seen == expected


def test_proofs_convince_a_stranger(installation: Installation) -> None:
    """With the log's public key alone: signed head, leaf hash, inclusion, and consistency with a later head."""
    headers, client = installation.key(), installation.client
    verifier = Verifier.parse(str(installation.services.log.verifier))
    installation.consent(headers)
    note = client.get("/v1/audit/checkpoint", headers=headers)
    assert note.headers["content-type"].startswith("text/plain")
    old = Checkpoint.open(note.text, verifier)
    installation.consent(headers)
    new = Checkpoint.open(client.get("/v1/audit/checkpoint", headers=headers).text, verifier)
    assert old.size < new.size
    entries = client.get("/v1/audit/entries", headers=headers).json()["data"]
    for item in entries[: new.size]:
        leaf = merkle.leaf_hash(base64.b64decode(item["data"]))
        assert leaf.hex() == item["hash"]
        query = f"index={item['index']}&size={new.size}"
        proof = client.get(f"/v1/audit/proofs/inclusion?{query}", headers=headers).json()
        path = [base64.b64decode(hash_) for hash_ in proof["hashes"]]
        assert merkle.verify_inclusion(leaf, item["index"], new.size, path, new.root)
    proof = client.get(f"/v1/audit/proofs/consistency?old={old.size}&new={new.size}", headers=headers).json()
    path = [base64.b64decode(hash_) for hash_ in proof["hashes"]]
    assert merkle.verify_consistency(old.size, new.size, old.root, new.root, path)

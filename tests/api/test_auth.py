"""Nobody comes in without a key, no key does more than its scopes say, and every refusal is in the log."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import select
from tests.api.conftest import CLIP, Installation, Make

from vivavoce.api.gate import GUARDED
from vivavoce.api.keys import find_key, new_token, revoke_key, well_formed
from vivavoce.api.refusals import Refusals
from vivavoce.api.scopes import Scope
from vivavoce.ledger.tables import ApiKey

OPEN = {"/healthz", "/readyz", "/detect", "/detect/report.json", "/detect/report.pdf", "/detect/keys", "/static/{name}"}
OPEN |= {"/metrics"}  # has a lock of its own: `test_metrics.py`
"""Routes of ours that need no key."""


LINKED_ROUTE = ("/subject/{token}", "/speak/{token}", "/console")
"""What a speaker reaches by a link of their own, and an operator by a login; `test_subject.py`,
`console/test_invited.py` and `console/test_accounts.py` have the tests."""


def routes(installation: Installation) -> list[Any]:
    """All routes of the application with their full paths."""
    app: Any = installation.client.app
    return [context for context in iter_route_contexts(app.routes) if isinstance(context.original_route, APIRoute)]


def scopes_of(route: Any) -> set[Scope]:
    """The scopes that a route's signature, and what it depends on, ask for."""
    found, waiting = set(), [route.dependant]
    while waiting:
        dependant = waiting.pop()
        waiting += dependant.dependencies
        if hasattr(dependant.call, "scope"):
            found.add(dependant.call.scope)
    return found


def test_every_route_is_behind_the_gate_and_names_one_scope(installation: Installation) -> None:
    """A route added tomorrow without a scope fails here."""
    found = routes(installation)
    assert len(found) > 15
    for route in found:
        if route.path in OPEN or route.path.startswith(LINKED_ROUTE):
            continue
        assert route.path.startswith(GUARDED), route.path
        assert len(scopes_of(route)) == 1, route.path


def test_every_scope_is_needed_somewhere(installation: Installation) -> None:
    named = {scope for route in routes(installation) for scope in scopes_of(route)}
    assert named | {Scope.ADMIN} == set(Scope)


def test_each_route_refuses_a_key_with_all_scopes_but_its_own(installation: Installation) -> None:
    for route in routes(installation):
        if route.path in OPEN or route.path.startswith(LINKED_ROUTE):
            continue
        (scope,) = scopes_of(route)
        headers = installation.key(*(set(Scope) - {scope}))
        before, leaves = installation.state(), len(installation.leaves())
        for method in route.methods:
            path = route.path.replace("{", "").replace("}", "")
            answer = installation.client.request(method, path, headers=headers, **_well_formed(path, method))
            assert answer.status_code == 403, (method, path, answer.text)
            body = answer.json()
            assert (body.get("error") or body)["code"] == "missing_scope"
        assert installation.state() == before
        refusal = installation.leaves(leaves)[-1]
        assert (refusal["tag"], refusal["tenant"]) == ("auth:refuse", installation.tenant)
        assert refusal["facts"] == {"reason": "scope_missing", "scope": scope.value}


def _well_formed(path: str, method: str) -> dict[str, Any]:
    """A request that only its key makes wrong."""
    if method != "POST":
        return {"params": {"index": 0, "size": 1, "old": 0, "new": 1}}
    if path.endswith(("/suspend", "/lift", "/revoke")):
        return {"json": {"reason": "x"}}
    if path.endswith(("/erase", "/links", "/cancel", "/retry")):
        return {}
    if path in ("/v1/consents/challenges", "/v1/consents/invitations"):
        return {"json": {"name": "x", "language": "en"}}
    if path == "/v1/consents":
        return {"data": {"challenge": "x"}, "files": {"recording": ("a.flac", CLIP)}}
    if path.startswith("/v1/reviews/"):
        return {"json": {"decision": "approve", "reason": "x"}}
    if path == "/v1/batches":
        return {"json": {"requests": [{"type": "speech", "voice": "v", "input": "hello"}]}}
    if path == "/v1/webhooks":
        return {"json": {"url": "https://receiver.example/"}}
    if path == "/v1/audio/speech":
        return {"json": {"voice": "v", "input": "hello"}}
    if path.startswith("/v1/text-to-speech/"):
        return {"json": {"text": "hello"}}
    if path.endswith("/consent_id"):
        return {"json": {"name": "x"}}
    fields = {
        "voice_consents": "recording",
        "renew": "recording",
        "voices": "audio_sample",
        "voice_id": "audio",
        "detect": "file",
    }
    last = path.removesuffix("/stream").rpartition("/")[2]
    if last == "renew":
        return {"data": {"language": "en"}, "files": {"recording": ("a.flac", CLIP)}}
    data = {"name": "x", "language": "en"} if last == "voice_consents" else {"name": "x"} if last == "voices" else {}
    return {"data": data, "files": {fields[last]: ("a.flac", CLIP)}}


def wrong_keys(installation: Installation) -> dict[str, dict[str, Any]]:
    """Headers that let nobody in, by the reason that the log gives."""
    good = installation.key()["Authorization"]
    revoked = installation.key()
    with installation.services.database.write() as session:
        row = find_key(session, installation.services.keyring, revoked["Authorization"].removeprefix("Bearer "))
        assert row is not None
        revoke_key(session, installation.services.log, row.id, datetime.now(UTC), "operator")
    other_last = "A" if good[-1] != "A" else "B"
    return {
        "none": {},
        "empty": {"Authorization": ""},
        "no kind": {"Authorization": good.removeprefix("Bearer ")},
        "other kind": {"Authorization": good.replace("Bearer", "Basic")},
        "typing error": {"Authorization": good[:-1] + other_last},
        "nonsense": {"Authorization": "Bearer vv_" + "x" * 49},
        "not ascii": {"Authorization": b"Bearer v\xfcv\xfc"},
        "not ours": {"Authorization": f"Bearer {new_token()}"},
        "revoked": revoked,
        # Only the route of ElevenLabs' shape takes this header.
        "other header": {"xi-api-key": good.removeprefix("Bearer ")},
    }


def test_wrong_keys(make: Make) -> None:
    installation = make()
    for name, headers in wrong_keys(installation).items():
        before, leaves = installation.state(), len(installation.leaves())
        answer = installation.client.get("/v1/audio/voices", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), name
        assert answer.headers["www-authenticate"] == "Bearer"
        assert installation.state() == before
        (refusal,) = installation.leaves(leaves)
        assert refusal["tag"] == "auth:refuse", name
    assert refusal["facts"]["area"] == "/v1/audio/"


def test_the_key_is_asked_before_the_body_is_read(installation: Installation) -> None:
    """Wrong JSON and a wrong key: a stranger learns about the key only."""
    answer = installation.client.post("/v1/audio/speech", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401
    assert installation.client.get("/v1/no/such/route").status_code == 401


def test_the_header_of_elevenlabs_on_its_route(installation: Installation) -> None:
    headers = installation.key()
    voice = installation.voice(headers, installation.consent(headers))
    token = headers["Authorization"].removeprefix("Bearer ")
    answer = installation.client.post(
        f"/v1/speech-to-speech/{voice}",
        headers={"xi-api-key": token, "Prefer": "respond-async"},
        files={"audio": ("a.flac", CLIP)},
    )
    assert answer.status_code == 202, answer.text


def test_keys_are_not_stored(installation: Installation) -> None:
    token = installation.key()["Authorization"].removeprefix("Bearer ")
    secret = token.removeprefix("vv_")[8:]
    with installation.services.database.read() as session:
        row = session.scalars(select(ApiKey).order_by(ApiKey.id.desc())).first()
    assert row is not None and token.startswith(row.prefix)
    for file in installation.services.settings.home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_checksums_tell_typing_errors_from_guesses() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    for token in tokens:
        assert well_formed(token)
        for place in range(3, len(token)):
            other = "0" if token[place] != "0" else "1"
            assert not well_formed(token[:place] + other + token[place + 1 :])
        assert not well_formed(token[:-1]) and not well_formed(token + "0") and not well_formed(token.upper())


def test_a_key_that_asks_too_often_waits(make: Make) -> None:
    installation = make(requests_per_minute=3)
    headers, other = installation.key(), installation.key()
    answers = [installation.client.get("/v1/audio/voices", headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert installation.client.get("/v1/audio/voices", headers=other).status_code == 200


def test_guessing_is_slowed_down_and_cannot_flood_the_log(make: Make) -> None:
    installation = make(refusals_per_minute=3)
    leaves = len(installation.leaves())
    statuses = [installation.client.get("/v1/jobs/x").status_code for _ in range(10)]
    assert statuses == [401] * 3 + [429] * 7
    assert installation.tags(leaves) == ["auth:refuse"] * 3


def test_a_flood_from_many_addresses_is_logged_as_a_number(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address is slowed down by itself; a botnet of them must not fill a log that forgets nothing."""
    leaves, refusals = len(installation.leaves()), Refusals(installation.services, most_per_minute=3)
    for _ in range(10):
        refusals.log("/v1/", None, "key_missing")
    assert installation.tags(leaves) == ["auth:refuse"] * 3
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    refusals.log("/v1/", None, "key_missing")
    *_, last = installation.leaves()
    assert last["facts"] == {"reason": "key_missing", "area": "/v1/", "unlogged": 7}


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_refusal_that_cannot_be_logged_is_no_entry(installation: Installation, method: str) -> None:
    """With the log gone nothing is answered but 503: not even whether a key is right."""
    headers = installation.key()
    with installation.services.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE audit_leaf RENAME TO gone")
    answer = getattr(installation.client, method)("/v1/audio/speech", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_unavailable")
    answer = installation.client.post("/v1/audio/speech", headers=headers, json={"voice": "v", "input": "hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "log_unavailable")
    ready = installation.client.get("/readyz")
    states = ready.json()
    assert (ready.status_code, states["log"], states["database"]) == (503, "unavailable", "ok")

"""Logging in through a provider: a real one on loopback, once honest and then lying in every way that matters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey
from pydantic import ValidationError
from sqlalchemy import select
from tests.api.conftest import Installation, Make
from tests.api.conftest import make as make
from tests.console.operators import PASSWORD, log_in
from tests.console.provider import CLIENT, SECRET, Provider, running_provider

from vivavoce.api.services import now
from vivavoce.console import entrance_openid
from vivavoce.console.accounts import AccountInvalid, disable_account, set_password
from vivavoce.ledger.accounts import Account, Login
from vivavoce.settings import ApiSettings


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


@pytest.fixture
def house(make: Make, provider: Provider) -> Installation:
    return make(
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_roles={"voice-admins": "admin", "auditors": "auditor"},
    )


def begin(house: Installation) -> str:
    """Go to the provider; gives the address that it sends the browser back to."""
    away = house.client.get("/console/oidc", follow_redirects=False)
    assert away.status_code == 303, away.text
    return str(httpx2.get(away.headers["location"], follow_redirects=False).headers["location"])


def finish(house: Installation, back: str) -> Any:
    return house.client.get(back.replace("http://testserver", ""), follow_redirects=False)


def test_somebody_whom_the_provider_knows_comes_in(house: Installation, provider: Provider) -> None:
    assert "/console/oidc" in house.client.get("/console/login").text
    answer = finish(house, begin(house))
    assert answer.status_code == 200 and "url=/console" in answer.headers["refresh"]
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("vivavoce=")]
    assert "SameSite=strict" in cookie and "HttpOnly" in cookie
    shown = house.client.get("/console").text
    assert "oidc." in shown and "admin" in shown
    with house.services.database.read() as session:
        account = session.scalars(select(Account)).one()
    assert account.external == f"{provider.issuer} jane" and account.password_hash is None
    said = json.dumps(house.leaves())
    assert "jane" not in said.lower() and SECRET not in said
    assert house.tags()[-3:] == ["account:create", "login:create", "ledger:read"]
    # The second time it is the same account, with the role that the provider says now.
    provider.claims = {"roles": "auditors"}
    assert finish(house, begin(house)).status_code == 200
    with house.services.database.read() as session:
        assert [one.role for one in session.scalars(select(Account))] == ["auditor"]


def lie(**claims: Any) -> Callable[[Provider], None]:
    return lambda provider: provider.claims.update(claims)


def _signed_by_another(provider: Provider) -> None:
    provider.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})


def _another_issuer(provider: Provider) -> None:
    provider.said_issuer = "http://127.0.0.1:1"


LIES = {
    "nonce": lie(nonce="of another login"),
    "audience": lie(aud="another client"),
    "audiences": lie(aud=[CLIENT, "another client"], azp="another client"),
    "expired": lie(exp=int(time.time()) - 3600),
    "issuer": lie(iss="https://elsewhere.example"),
    "no role": lie(roles=["guests"]),
    "roles of a wrong kind": lie(roles={"voice-admins": True}),
    "key": _signed_by_another,
    **{
        f"no {name}": (lambda provider, name=name: provider.missing.add(name))
        for name in ("nonce", "sub", "exp", "aud")
    },
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_lets_nobody_in(house: Installation, provider: Provider, name: str) -> None:
    LIES[name](provider)
    assert refused(house, begin(house)) == ("oidc_role_missing" if "role" in name else "oidc_token_refused")


def refused(house: Installation, back: str) -> str:
    """See that a way back opens nothing; gives the reason in the log."""
    before = len(house.leaves())
    answer = finish(house, back)
    assert answer.status_code == 403, answer.text
    (leaf,) = house.leaves(before)
    assert (leaf["tag"], leaf["actor"]) == ("auth:refuse", "anonymous")
    with house.services.database.read() as session:
        assert session.scalars(select(Login)).all() == []
    assert "vivavoce" not in house.client.cookies
    return str(leaf["facts"]["reason"])


def test_the_provider_says_it_is_another(house: Installation, provider: Provider) -> None:
    _another_issuer(provider)
    assert house.client.get("/console/oidc", follow_redirects=False).status_code == 502


def test_a_wrong_state_lets_nobody_in(house: Installation) -> None:
    """A way back that somebody else began, none at all, or one that took too long."""
    back = begin(house)
    code = parse_qs(urlsplit(back).query)["code"][0]
    for address in (f"/console/oidc/callback?code={code}&state=another", f"/console/oidc/callback?code={code}"):
        assert refused(house, address) == "oidc_state_wrong"
    for cookie in ("", "A" * 80, "no base64!"):
        house.client.cookies.clear()
        house.client.cookies.set("vivavoce-oidc", cookie)
        assert refused(house, back) == "oidc_state_wrong"


def test_a_code_is_good_once(house: Installation) -> None:
    back = begin(house)
    kept = house.client.cookies["vivavoce-oidc"]
    assert finish(house, back).status_code == 200
    house.client.cookies.clear()
    house.client.cookies.set("vivavoce-oidc", kept)
    answer = finish(house, back)
    assert answer.status_code == 403 and house.leaves()[-1]["facts"]["reason"] == "oidc_token_refused"


def test_a_login_that_took_too_long(house: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    back = begin(house)
    monkeypatch.setattr(entrance_openid, "now", lambda: now() + timedelta(minutes=11))
    refused(house, back)


def test_a_disabled_account_stays_out_and_has_no_password(house: Installation) -> None:
    assert finish(house, begin(house)).status_code == 200
    with house.services.database.write() as session:
        name = session.scalars(select(Account.name)).one()
        with pytest.raises(AccountInvalid):
            set_password(session, house.services.log, name, PASSWORD, "operator")
        disable_account(session, house.services.log, name, now(), "operator")
    house.client.cookies.clear()
    refused(house, begin(house))
    assert log_in(house, name).status_code == 403


def test_without_a_provider_there_is_no_way(make: Make) -> None:
    house = make()
    for path in ("/console/oidc", "/console/oidc/callback"):
        assert house.client.get(path).status_code == 404
    assert "organisation" not in house.client.get("/console/login").text


def test_half_a_provider_is_a_wrong_setting() -> None:
    with pytest.raises(ValidationError, match="OIDC"):
        ApiSettings(oidc_issuer="https://issuer.example")

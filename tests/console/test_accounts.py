"""Who comes to the console, how they stay, and what keeps everybody else out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from limits import RateLimitItemPerHour
from pwdlib import PasswordHash
from sqlalchemy import select, update
from tests.api.conftest import Installation, open_installation
from tests.api.conftest import make as make
from tests.api.test_auth import routes
from tests.console.operators import ORIGIN, PASSWORD, enter, log_in, post
from typer.testing import CliRunner

from vivavoce.api.services import now
from vivavoce.cli.accounts import app as command
from vivavoce.cli.first_run import prepare
from vivavoce.console import entrance, pages
from vivavoce.console.accounts import disable_account, set_password
from vivavoce.console.logins import IDLE, LONGEST
from vivavoce.ledger.accounts import Account, Login, Role
from vivavoce.ledger.database import Database
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import AuditLeaf

ENTRANCE = {"/console/login", "/console/oidc", "/console/oidc/callback"}
"""Routes of the console that need nobody logged in."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Installation]:
    with open_installation(tmp_path_factory.mktemp("console") / "home", _sqlite_template) as opened:
        for role in Role:
            enter(opened, role)
        yield opened


@pytest.fixture(autouse=True)
def _patience(house: Installation) -> None:
    """What one test fails at must not slow down the next."""
    house.client.app.state.throttle._limiter.storage.reset()  # type: ignore[attr-defined]


def console_routes(house: Installation) -> list[tuple[str, str, frozenset[Role]]]:
    """Method, path and roles of every route of the console."""
    found = []
    for route in routes(house):
        if not route.path.startswith("/console") or route.path in ENTRANCE:
            continue
        roles = [one.call.roles for one in route.dependant.dependencies if hasattr(one.call, "roles")]
        assert len(roles) == 1, route.path
        found += [(method, re.sub(r"[{}]", "", route.path), roles[0]) for method in route.methods]
    return found


def test_without_a_login_every_route_leads_to_it(house: Installation) -> None:
    house.client.cookies.clear()
    found = console_routes(house)
    assert len(found) >= 2
    for method, path, _ in found:
        answer = house.client.request(method, path, headers=ORIGIN, follow_redirects=False)
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].startswith("/console/login"), (method, path)


@pytest.mark.parametrize("role", Role)
def test_a_role_does_what_is_its_own(house: Installation, role: Role) -> None:
    """Whoever lacks the role is refused and logged; whoever has it, gets further than that."""
    log_in(house, role)
    for method, path, roles in console_routes(house):
        if path == "/console/logout":
            continue
        leaves, before = len(house.leaves()), house.state()
        answer = post(house, path) if method == "POST" else house.client.get(path, follow_redirects=False)
        if role not in roles:
            assert answer.status_code == 403, (method, path, role)
            refusal = house.leaves(leaves)[-1]
            assert refusal["facts"] == {"reason": "role_missing", "area": "/console"}
            assert refusal["actor"] == f"operator:{role}"
            assert house.state() == before
        else:
            assert answer.status_code != 403, (method, path, role)


def test_an_auditor_changes_nothing(house: Installation) -> None:
    posts = {path: roles for method, path, roles in console_routes(house) if method != "GET"}
    for path, roles in posts.items():
        assert Role.AUDITOR not in roles or path in ("/console/logout", "/console/audit/index/verify"), path


def test_a_form_without_its_token_or_from_elsewhere_is_refused(house: Installation) -> None:
    log_in(house, "admin")
    mine = re.search(r'name="form_token" value="(\w+)"', house.client.get("/console").text).group(1)  # type: ignore[union-attr]
    elsewhere: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, ORIGIN),
        ({"form_token": "0" * 64}, ORIGIN),
        ({"form_token": "\u00e9"}, ORIGIN),
        ({"form_token": mine}, {}),
        ({"form_token": mine}, {"Origin": "null"}),
        ({"form_token": mine}, {"Origin": "https://elsewhere.example"}),
        ({"form_token": mine}, {"Origin": "http://testserver.elsewhere.example"}),
        ({"form_token": mine}, {"Sec-Fetch-Site": "cross-site"}),
    ]
    for method, path, _ in console_routes(house):
        if method == "GET":
            continue
        for data, headers in elsewhere:
            leaves, before = len(house.leaves()), house.state()
            answer = house.client.post(path, data=data, headers=headers, follow_redirects=False)
            assert answer.status_code == 403, (path, data, headers)
            assert house.leaves(leaves)[-1]["facts"]["reason"] == "form_refused"
            assert house.state() == before
    log_in(house, "reviewer")
    answer = house.client.post("/console/logout", data={"form_token": mine}, headers=ORIGIN)
    assert answer.status_code == 403  # another login's


def test_the_cookie(house: Installation) -> None:
    """Plain HTTP on this machine; over TLS a name that a browser gives to no other host."""
    cookie = log_in(house, "admin").headers["set-cookie"]
    assert cookie.startswith("vivavoce=") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    secure = TestClient(house.client.app, base_url="https://console.example", client=("203.0.113.9", 1))
    form = {"name": "admin", "password": PASSWORD}
    answer = secure.post(
        "/console/login", data=form, headers={"Origin": "https://console.example"}, follow_redirects=False
    )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-vivavoce=") and "Path=/" in cookie and "Domain" not in cookie
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Secure"))
    token = cookie.partition("=")[2].partition(";")[0]
    assert len(token) == 43
    for file in house.services.settings.home.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("forwarded", [{}, {"X-Forwarded-For": "203.0.113.9"}])
def test_plain_http_is_for_this_machine_only(house: Installation, forwarded: dict[str, str]) -> None:
    where = "127.0.0.1" if forwarded else "203.0.113.9"
    plain = TestClient(house.client.app, base_url="http://console.example", client=(where, 1), headers=forwarded)
    for method, path, _ in [*console_routes(house), ("GET", "/console/login", ()), ("POST", "/console/login", ())]:
        data = {"name": "admin", "password": PASSWORD}
        answer = plain.request(method, path, data=data if method == "POST" else None, follow_redirects=False)
        assert answer.status_code == 403 and "HTTPS" in answer.text, path


def test_wrong_logins_are_told_alike_logged_and_slowed_down(house: Installation) -> None:
    said = set()
    leaves = len(house.leaves())
    for name, password in (("admin", "wrong horse battery"), ("nobody", PASSWORD), (" ", " "), ("admin", "x" * 5000)):
        answer = log_in(house, name, password)
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
        said.add(answer.text)
    assert len(said) == 1
    reasons = [leaf["facts"]["reason"] for leaf in house.leaves(leaves)]
    assert reasons == ["password_wrong", "account_unknown", "account_unknown", "password_wrong"]
    assert "nobody" not in json.dumps(house.leaves(leaves))
    for _ in range(6):
        log_in(house, "admin", "wrong horse battery")
    slowed = log_in(house, "admin")
    assert slowed.status_code == 429 and 1 <= int(slowed.headers["retry-after"]) <= 60


def test_a_login_form_from_elsewhere_lets_nobody_in(house: Installation) -> None:
    """Or a stranger could log somebody into the stranger's own account."""
    form = {"name": "admin", "password": PASSWORD}
    for headers in ({}, {"Origin": "null"}, {"Origin": "https://elsewhere.example"}):
        answer = house.client.post("/console/login", data=form, headers=headers, follow_redirects=False)
        assert answer.status_code == 403 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("/console/audit?event=job:refuse&before=12", "/console/audit?event=job:refuse&before=12"),
        ("https://elsewhere.example/", "/console"),
        ("//elsewhere.example", "/console"),
        ("/console/../v1/jobs\r\nX: y", "/console"),
        ("/console@elsewhere.example", "/console"),
    ],
)
def test_after_the_login_one_stays_in_the_house(house: Installation, asked: str, led: str) -> None:
    assert log_in(house, "admin", next=asked).headers["location"] == led


def test_a_login_ends(house: Installation) -> None:
    """By logging out, by idleness, by age, with the account, and with its password."""

    def older(**times: Any) -> None:
        with house.services.database.write() as session:
            session.execute(update(Login).values(**times))

    def inside() -> bool:
        return bool(house.client.get("/console", follow_redirects=False).status_code == 200)

    enter(house, Role.ADMIN, "second")
    log_in(house, "second")
    kept = house.client.cookies["vivavoce"]
    assert inside()
    assert post(house, "/console/logout").status_code == 303
    house.client.cookies.set("vivavoce", kept)
    assert not inside()
    log_in(house, "second")
    older(seen_at=now() - IDLE + timedelta(seconds=20))
    assert inside()  # and this was a request
    older(seen_at=now() - IDLE)
    assert not inside()
    log_in(house, "second")
    older(created_at=now() - LONGEST)
    assert not inside()
    log_in(house, "second")
    with house.services.database.write() as session:
        set_password(session, house.services.log, "second", "another long password", "operator")
    assert not inside()
    assert log_in(house, "second").status_code == 403
    assert log_in(house, "second", "another long password").status_code == 303 and inside()
    with house.services.database.write() as session:
        disable_account(session, house.services.log, "second", now(), "operator")
    assert not inside()
    assert log_in(house, "second", "another long password").status_code == 403
    assert house.leaves()[-1]["facts"]["reason"] == "account_disabled"


def test_using_a_login_keeps_it(house: Installation) -> None:
    log_in(house, "admin")
    with house.services.database.write() as session:
        session.execute(update(Login).values(seen_at=now() - IDLE / 2))
    assert house.client.get("/console").status_code == 200
    with house.services.database.read() as session:
        assert min(now() - seen for seen in session.scalars(select(Login.seen_at))) < timedelta(minutes=1)


def test_pages_forbid_inline_script_and_frames(house: Installation) -> None:
    log_in(house, "admin")
    for path in ("/console/login", "/console"):
        answer = house.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src)|\son\w+=|style=|javascript:", answer.text)


def test_one_name_is_not_tried_from_many_addresses(house: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "_BY_NAME", RateLimitItemPerHour(4))
    form = {"name": "auditor", "password": "wrong horse battery"}
    statuses = []
    for number in range(5):
        client = TestClient(house.client.app, base_url="https://x.example", client=(f"203.0.113.{number}", 1))
        answer = client.post("/console/login", data=form, headers={"Origin": "https://x.example"})
        statuses.append(answer.status_code)
    assert statuses == [403] * 4 + [429]


def test_scripts_of_others_are_what_their_licence_file_says() -> None:
    said = (Path(pages.__file__).parent / "static-licences.md").read_text()
    digest = hashlib.sha256(pages.ASSETS["htmx.min.js"][0].encode()).hexdigest()
    assert f"`{digest}`" in said


def test_accounts_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_cost: PasswordHash) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("VIVAVOCE_HOME", str(home))
    prepare(CoreSettings(home=home))

    def run(*words: str, said: str = "") -> Any:
        return CliRunner().invoke(command, [*words], input=said)

    assert run("add", "anna", "--role", "admin", said=f"{PASSWORD}\n").exit_code == 0
    for words, said in (
        (("add", "anna"), PASSWORD),
        (("add", "Anna Smith"), PASSWORD),
        (("add", "x"), PASSWORD),
        (("add", "berta"), "too short"),
        (("add", "berta"), "x" * 201),
        (("add", "berta", "--role", "king"), PASSWORD),
        (("disable", "nobody"), ""),
        (("passwd", "nobody"), PASSWORD),
    ):
        assert run(*words, said=said).exit_code == 2, words
    assert run("passwd", "anna", said="another long password\n").exit_code == 0
    listed = run("list").stdout
    assert "anna" in listed and "admin" in listed and "password" in listed
    assert run("disable", "anna").exit_code == 0
    database = Database(CoreSettings(home=home).database_url)
    with database.read() as session:
        account = session.scalars(select(Account)).one()
        leaves = session.scalars(select(AuditLeaf.tag).order_by(AuditLeaf.index)).all()
        said = b"".join(session.scalars(select(AuditLeaf.data)).all()).decode()
    database.close()
    assert account.password_hash is not None and account.password_hash.startswith("$argon2id$")
    assert full_cost.hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")  # RFC 9106, section 4: for any use
    assert leaves[2:] == ["account:create", "account:update", "account:update"]
    assert "password" in said and PASSWORD not in said and "another long" not in said

"""Operators for tests: an account, and a client that is logged in with it as a browser would be."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tests.api.conftest import Installation

from vivavoce.console.accounts import create_account
from vivavoce.ledger.accounts import Account, Role

PASSWORD = "correct horse battery"
ORIGIN = {"Origin": "http://testserver"}


def enter(installation: Installation, role: Role, name: str = "") -> Account:
    """Make an account, by default named as its role."""
    with installation.services.database.write() as session:
        return create_account(
            session, installation.services.log, name or str(role), role, PASSWORD, datetime.now(UTC), "operator"
        )


def log_in(installation: Installation, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Send the login form; the cookie stays in the client."""
    installation.client.cookies.clear()
    form = {"name": name, "password": password} | more
    return installation.client.post("/console/login", data=form, headers=ORIGIN, follow_redirects=False)


def post(installation: Installation, path: str, *, follow_redirects: bool = False, **fields: Any) -> Any:
    """Send a form of the console, with the token that its pages carry."""
    shown = installation.client.get("/console").text
    token = re.search(r'name="form_token" value="(\w+)"', shown)
    assert token is not None
    data = fields | {"form_token": token.group(1)}
    return installation.client.post(path, data=data, headers=ORIGIN, follow_redirects=follow_redirects)

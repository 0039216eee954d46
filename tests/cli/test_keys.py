"""`vivavoce keys`, on a real installation in a folder of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from vivavoce.api.keys import well_formed
from vivavoce.cli import tenants
from vivavoce.cli.first_run import prepare
from vivavoce.cli.keys import app
from vivavoce.ledger.database import Database
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import AuditLeaf

Keys = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVAVOCE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def keys(home: Path) -> Keys:
    prepare(CoreSettings(home=home))
    return lambda *words: CliRunner().invoke(app, [*words])


def tags(home: Path) -> list[str]:
    database = Database(CoreSettings(home=home).database_url)
    with database.read() as session:
        leaves = list(session.scalars(select(AuditLeaf.data).order_by(AuditLeaf.index)))
    database.close()
    return [json.loads(leaf)["tag"] for leaf in leaves]


def test_a_key_from_birth_to_end(keys: Keys, home: Path) -> None:
    made = keys("create", "--name", "robot", "--scope", "speech", "--scope", "jobs:read")
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert well_formed(token)
    key_id = re.search(r"key_\w+", made.stderr).group()  # type: ignore[union-attr]
    listed = keys("list").stdout
    assert key_id in listed and "robot" in listed and "jobs:read speech" in listed
    assert token not in listed and token[:11] in listed
    assert keys("revoke", key_id).exit_code == 0
    assert keys("revoke", key_id).exit_code == 0
    assert tags(home) == ["tenant:create", "key:create", "key:create", "key:revoke"]


def test_a_tenant_of_its_own(keys: Keys) -> None:
    made = keys("create", "--name", "theirs", "--scope", "speech", "--new-tenant", "Another")
    assert made.exit_code == 0, made.output
    ambiguous = keys("create", "--name", "whose", "--scope", "speech")
    assert ambiguous.exit_code == 2 and "--tenant" in ambiguous.output
    tenant = re.search(r"ten_\w+", made.stderr).group()  # type: ignore[union-attr]
    assert keys("create", "--name", "whose", "--scope", "speech", "--tenant", tenant).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--name", "x", "--scope", "everything"),
        ("create", "--name", "x"),
        ("create", "--name", "x", "--scope", "speech", "--tenant", "ten_nobody"),
        ("revoke", "key_nobody"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(keys: Keys, home: Path, words: tuple[str, ...]) -> None:
    before = tags(home)
    done = keys(*words)
    assert done.exit_code == 2 and done.output
    assert tags(home) == before


def test_no_installation_is_made_by_looking_for_one(home: Path) -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 1 and "Failed" in done.output
    assert not home.exists()


def test_a_tenants_profile_is_set_and_logged(keys: Keys, home: Path) -> None:
    keys("create", "--name", "robot", "--scope", "speech", "--new-tenant", "Radio")
    listed = CliRunner().invoke(tenants.app, ["list"]).stdout
    tenant = next(re.search(r"ten_\w+", line).group() for line in listed.splitlines() if "Radio" in line)  # type: ignore[union-attr]
    done = CliRunner().invoke(tenants.app, ["set", tenant, "--profile", "eu", "--least-assurance", "challenge"])
    assert done.exit_code == 0, done.output
    assert "eu" in CliRunner().invoke(tenants.app, ["list"]).stdout
    assert tags(home)[-1] == "tenant:update"
    for wrong in (["set", tenant], ["set", tenant, "--profile", "mars"], ["set", "ten_x", "--profile", "eu"]):
        assert CliRunner().invoke(tenants.app, wrong).exit_code == 2

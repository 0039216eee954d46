"""The guide's own commands, run: PostgreSQL dumped and put back, and the log verified before it is served."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError
from tests.conftest import POSTGRESQL, _postgresql
from tests.consent.world import World

from vivavoce.audit.heads import Heads
from vivavoce.audit.publishing import sign_and_keep
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Consent

GUIDE = Path(__file__).parents[2] / "docs" / "production.md"

pytestmark = pytest.mark.skipif(
    shutil.which("pg_dump") is None and os.environ.get("CI") != "true", reason="PostgreSQL's programs are not here"
)


def _command(name: str) -> list[str]:
    """The guide's command line of this program."""
    found = re.search(rf"`?({name} [^`\n]+)", GUIDE.read_text())
    assert found is not None
    return found[1].split()


def _run(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _named(words: list[str], url: str) -> list[str]:
    return [word.replace("vivavoce", str(make_url(url).database)) for word in words]


@pytest.fixture
def target_url() -> Iterator[str]:
    yield from _postgresql()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_dump_comes_back_and_its_log_verifies(
    database: Database, keyring: KeyRing, target_url: str, tmp_path: Path
) -> None:
    server, world = make_url(POSTGRESQL), World(database, keyring)
    # The guide leaves to the operator's own files who may log in.
    access = {"PGHOST": str(server.host), "PGPORT": str(server.port or 5432), "PGUSER": str(server.username)}
    access |= {"PGPASSWORD": str(server.password)} if server.password else {}
    consent_id = world.consent()
    objects = f"file://{tmp_path / 'objects'}"
    (tmp_path / "backup").mkdir()
    sign_and_keep(database, world.log, Heads(ObjectStore(objects), *world.log.verifiers))
    _run(_named(_command("pg_dump"), database.url), tmp_path, access)
    _run(_named(_command("pg_restore"), target_url), tmp_path, access)
    (tmp_path / "keys").mkdir(mode=0o700)
    for name, file in keyring.files.items():
        (tmp_path / "keys" / f"{name}.key").write_text(str(file))
        (tmp_path / "keys" / f"{name}.key").chmod(0o600)
    told = {
        "HOME": str(tmp_path),
        "DATABASE_URL": target_url,
        "OBJECTS_URL": objects,
        "KEYS_DIR": str(tmp_path / "keys"),
    }
    environment = {f"VIVAVOCE_{name}": value for name, value in (told | {"LOG_ORIGIN": world.log.origin}).items()}
    vivavoce = [sys.executable, "-m", "vivavoce.cli", "audit"]
    _run([*vivavoce, "status"], tmp_path, environment)
    (tmp_path / "key").write_text(_run([*vivavoce, "key"], tmp_path, environment))
    _run([*vivavoce, "export", "-o", "log"], tmp_path, environment)
    assert "Verified" in _run([*vivavoce, "verify", "log", "--public-key", "key"], tmp_path, environment)
    back = Database(target_url)
    try:
        with back.read() as session:
            assert session.scalars(select(Consent.id)).all() == [consent_id]
        # The guards came along with the tables.
        with pytest.raises(DBAPIError, match="append-only"), back.write() as session:
            session.execute(text("DELETE FROM audit_leaf"))
    finally:
        back.close()

"""`vivavoce audit` on a real installation: export, verify, and a loud no for a tampered file."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from vivavoce.audit.commands import app
from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.settings import CoreSettings


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVAVOCE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def database(home: Path) -> Database:
    """An installation with three entries in its log."""
    settings = CoreSettings()
    upgrade(settings.database_url)
    log = Log(KeyRing.open(settings.keys_folder, create=True), settings.log_origin)
    database = Database(settings.database_url)
    with database.write() as session:
        for _ in range(3):
            log.append(session, Entry(Tag.JOB_INTENT, None, "operator"))
    return database


def test_an_export_verifies_and_a_tampered_one_does_not(database: Database, tmp_path: Path) -> None:
    bundle, key = tmp_path / "log.jsonl", tmp_path / "log.key"
    assert run("export", "-o", bundle).exit_code == 0
    key.write_text(run("key").stdout)
    verified = run("verify", bundle, "--public-key", key)
    assert verified.exit_code == 0
    assert "Verified 4 leaves under 1 signed heads" in verified.stdout
    assert "compare it" not in verified.stdout
    assert "compare it" in run("verify", bundle).stdout
    bundle.write_bytes(bundle.read_bytes().replace(b"job:intent", b"job:refuse", 1))
    tampered = run("verify", bundle, "--public-key", key)
    assert tampered.exit_code == 1
    assert "NOT VERIFIED" in tampered.stderr
    assert "leaf 0" in tampered.stderr
    assert "Verified" not in tampered.stdout


def test_an_export_is_itself_logged(database: Database, tmp_path: Path) -> None:
    run("export", "-o", tmp_path / "one.jsonl")
    run("export", "-o", tmp_path / "two.jsonl")
    assert (tmp_path / "two.jsonl").read_text().count("log:export") == 2


def test_a_broken_log_is_written_for_examination_and_never_signed(database: Database, tmp_path: Path) -> None:
    run("export", "-o", tmp_path / "one.jsonl")
    with database.write() as session:
        session.execute(text("DROP TRIGGER audit_node_no_update"))
        session.execute(text("UPDATE audit_node SET hash = zeroblob(32) WHERE level = 2"))
    found = run("export", "-o", tmp_path / "two.jsonl")
    assert found.exit_code == 1
    assert "BROKEN LOG" in found.stderr
    assert "leaves 0 to 3" in run("verify", tmp_path / "two.jsonl").stderr


def test_no_installation_is_a_clear_error_and_stays_none(home: Path, tmp_path: Path) -> None:
    for arguments in (("export", "-o", tmp_path / "x.jsonl"), ("key",)):
        found = run(*arguments)
        assert found.exit_code == 1
        assert "cannot be read" in found.stderr
    assert not home.exists()


def test_a_file_that_is_no_bundle_is_not_verified(tmp_path: Path) -> None:
    for content in (b"", b"\x00\xff", b"[]\n", b"{}\n", b"x" * 100):
        (tmp_path / "x").write_bytes(content)
        found = run("verify", tmp_path / "x")
        assert (found.exit_code, "NOT VERIFIED" in found.stderr) == (1, True)

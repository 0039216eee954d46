"""A log with gaps, contradictions or stale heads raises the alarm; a database that was put back is found out."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.audit.logs import fill, unguard
from typer.testing import CliRunner

from vivavoce.audit.commands import app
from vivavoce.audit.errors import HeadConflict, LogBroken
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.publishing import sign_and_keep
from vivavoce.audit.watch import Health, examine
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.settings import CoreSettings

HOUR = timedelta(hours=1)


@pytest.fixture
def heads(log: Log) -> Heads:
    return Heads(ObjectStore("memory://"), log.verifier)


def health(database: Database, log: Log, heads: Heads, after: timedelta = timedelta()) -> Health:
    with database.read() as session:
        return examine(session, log, heads, datetime.now(UTC) + after, HOUR)


def test_a_well_kept_log_raises_no_alarm(database: Database, log: Log, heads: Heads) -> None:
    assert health(database, log, heads, 2 * HOUR).stale == ()
    for count in (1, 6, 9):
        fill(database, log, count)
        sign_and_keep(database, log, heads)
        found = health(database, log, heads, 2 * HOUR)
        assert (found.broken, found.stale, found.signed) == ((), (), found.size)


def test_leaves_without_a_head_and_heads_that_are_not_kept_get_stale(
    database: Database, log: Log, heads: Heads
) -> None:
    fill(database, log, 3)
    assert health(database, log, heads).stale == ()
    assert "leaf 0 has waited" in health(database, log, heads, 2 * HOUR).stale[0]
    with database.write() as session:
        log.checkpoint(session)
    assert "not kept outside" in health(database, log, heads, 2 * HOUR).stale[0]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ('DELETE FROM audit_leaf WHERE "index" = 3', "1 leaves are missing, the first is leaf 3"),
        ('DELETE FROM audit_leaf WHERE "index" = 0', "1 leaves are missing, the first is leaf 0"),
        ('DELETE FROM audit_leaf WHERE "index" = 10', "11 leaves were signed, only 10 are left"),
        ('DELETE FROM audit_node WHERE level = 2 AND "index" = 1', "level 2 of the tree has 1 nodes instead of 2"),
        (
            "UPDATE audit_node SET hash = (SELECT hash FROM audit_leaf LIMIT 1) WHERE level = 3",
            "not those that were signed",
        ),
        ("UPDATE audit_checkpoint SET note = replace(note, 'test', 'best')", "not signed by"),
        ("UPDATE audit_checkpoint SET size = 12", "stands at size 12, its note is of 11 leaves"),
        ("DELETE FROM audit_checkpoint", "has forgotten it"),
    ],
)
def test_rows_changed_behind_the_guards(database: Database, log: Log, heads: Heads, statement: str, said: str) -> None:
    fill(database, log, 11)
    sign_and_keep(database, log, heads)
    unguard(database)
    with database.write() as session:
        session.execute(text(statement))
    assert any(said in line for line in health(database, log, heads).broken)


def test_a_database_that_was_put_back_is_found_out(sqlite_url: str, log: Log, heads: Heads, tmp_path: Path) -> None:
    """The old file is sound in itself: only the head that is kept outside tells. It gets no second head."""
    database = Database(sqlite_url)
    fill(database, log, 5)
    sign_and_keep(database, log, heads)
    database.close()
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "old.sqlite3")
    database = Database(sqlite_url)
    fill(database, log, 5)
    sign_and_keep(database, log, heads)
    old = Database(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    assert health(old, log, Heads(ObjectStore("memory://"), log.verifier)).broken == ()
    assert "put back" in health(old, log, heads).broken[0]
    with pytest.raises(LogBroken, match="10 leaves were signed, only 5"):
        sign_and_keep(old, log, heads)
    fill(old, log, 7)
    assert "not those that were signed" in health(old, log, heads).broken[0]
    with pytest.raises(LogBroken, match="not those that were signed"):
        sign_and_keep(old, log, heads)


def test_kept_heads_are_never_replaced(log: Log, keyring: KeyRing) -> None:
    objects = ObjectStore("memory://")
    heads = Heads(objects, log.verifier)
    note = Checkpoint(log.origin, 5, bytes(32)).sign(keyring.log_signer)
    heads.keep(note)
    heads.keep(note)
    with pytest.raises(HeadConflict, match="forked"):
        heads.keep(Checkpoint(log.origin, 5, bytes(31) + b"1").sign(keyring.log_signer))
    assert heads.last() == Checkpoint(log.origin, 5, bytes(32))
    objects.put("log-heads/00000000000000000009", note.encode())
    with pytest.raises(HeadConflict):
        heads.last()


def test_the_commands_end_with_clear_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVAVOCE_HOME", str(tmp_path / "home"))
    settings = CoreSettings()
    upgrade(settings.database_url)
    log = Log(KeyRing.open(settings.keys_folder, create=True), settings.log_origin)
    database = Database(settings.database_url)
    fill(database, log, 4)

    def run(*arguments: object) -> tuple[int, str]:
        found = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return found.exit_code, found.output

    assert run("status") == (0, "4 leaves, 0 under a signed head of never\n")
    (tmp_path / "log.key").write_text(run("key")[1])
    assert run("publish", "-o", tmp_path / "log")[0] == 0
    assert b'"actor":"operator","facts":{},"index":4' in (tmp_path / "log/tile/entries/000.p/5").read_bytes()
    assert b'"tag":"log:export"' in (tmp_path / "log/tile/entries/000.p/5").read_bytes()
    assert run("prove", "2", "-o", tmp_path / "p.tlog-proof")[0] == 0
    code, said = run("check", tmp_path / "p.tlog-proof", "--public-key", tmp_path / "log.key")
    assert (code, "Proven leaf 2 of 5" in said, "job_2" in said) == (0, True, True)
    (tmp_path / "none.key").write_text("")
    witnessed = ("--public-key", tmp_path / "log.key", "--cosigner", tmp_path / "none.key")
    code, said = run("check", tmp_path / "p.tlog-proof", *witnessed)
    assert (code, "has no keys" in said) == (1, True)
    (tmp_path / "p.tlog-proof").write_text((tmp_path / "p.tlog-proof").read_text().replace("index 2", "index 3"))
    assert run("check", tmp_path / "p.tlog-proof", "--public-key", tmp_path / "log.key")[0] == 1
    assert run("prove", "out_none", "-o", tmp_path / "x")[0] == 1
    with database.write() as session:
        session.execute(text("DROP TRIGGER audit_leaf_no_delete"))
        session.execute(text('DELETE FROM audit_leaf WHERE "index" = 3'))
    code, said = run("status")
    assert (code, "BROKEN" in said) == (1, True)

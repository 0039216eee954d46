"""A backup taken while the house works is whole, holds no key unasked, and comes back only if its log verifies."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError
from tests.api.conftest import open_installation

from vivavoce.api.tenants import create_tenant
from vivavoce.audit.errors import AuditError
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.publishing import sign_and_keep
from vivavoce.cli.backup import DATABASE, KEYS, BackupError, put_back, take
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings


@pytest.fixture
def home(tmp_path: Path, _sqlite_template: Path) -> Path:
    """An installation with a consent and a voice, and a kept head."""
    with open_installation(tmp_path / "home", _sqlite_template) as opened:
        headers = opened.key()
        opened.voice(headers, opened.consent(headers))
    return tmp_path / "home"


def settings(home: Path) -> CoreSettings:
    return CoreSettings(home=home)


def test_there_and_back(home: Path, tmp_path: Path, _sqlite_template: Path) -> None:
    """Rows and objects are the same afterwards, and the log says that a backup was made."""
    take(settings(home), tmp_path / "backup", with_keys=True)
    size = put_back(settings(tmp_path / "new"), tmp_path / "backup", None)
    with sqlite3.connect(tmp_path / "new" / DATABASE) as new, sqlite3.connect(home / DATABASE) as old:
        for table in ("voice", "consent", "subject", "audit_leaf"):
            rows = f"SELECT * FROM {table} ORDER BY 1"
            assert new.execute(rows).fetchall() == old.execute(rows).fetchall() != []
        leaves = new.execute('SELECT data FROM audit_leaf ORDER BY "index"').fetchall()
    assert len(leaves) == size and b'"tag":"ledger:backup"' in leaves[-1][0]
    objects = {path.relative_to(home): path.read_bytes() for path in (home / "objects").rglob("*") if path.is_file()}
    assert objects == {name: (tmp_path / "new" / name).read_bytes() for name in objects}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "new" / KEYS).glob("*.key"))
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_keys_are_taken_along_only_when_asked_for(home: Path, tmp_path: Path) -> None:
    take(settings(home), tmp_path / "backup", with_keys=False)
    secrets = [path.read_bytes().strip() for path in (home / KEYS).glob("*.key")]
    for path in (tmp_path / "backup").rglob("*"):
        assert path.is_dir() or not any(secret in path.read_bytes() for secret in secrets)
    with pytest.raises(BackupError, match="--keys"):
        put_back(settings(tmp_path / "new"), tmp_path / "backup", None)
    assert not (tmp_path / "new").exists()
    assert put_back(settings(tmp_path / "new"), tmp_path / "backup", home / KEYS) > 0


def test_a_backup_under_load_verifies(home: Path, tmp_path: Path) -> None:
    """Leaves are appended, heads are signed and kept, while it is taken."""
    own, stop, written = settings(home), threading.Event(), []
    log, database = Log(KeyRing.open(own.keys_folder), own.log_origin), Database(own.database_url)

    def work() -> None:
        while not stop.is_set():
            with database.write() as session:
                written.append(create_tenant(session, log, "load", datetime.now(UTC), "operator").id)
            sign_and_keep(database, log, Heads(ObjectStore(own.objects_url), log.verifier))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(4):
            take(own, tmp_path / f"backup-{number}", with_keys=True)
    finally:
        stop.set()
        thread.join()
        database.close()
    assert written
    for number in range(4):
        assert put_back(settings(tmp_path / f"new-{number}"), tmp_path / f"backup-{number}", None) > 0


@pytest.mark.parametrize("harm", ["leaf changed", "leaf gone", "other keys", "cut"])
def test_a_backup_whose_log_does_not_verify_is_not_restored(home: Path, tmp_path: Path, harm: str) -> None:
    take(settings(home), tmp_path / "backup", with_keys=True)
    file = tmp_path / "backup" / DATABASE
    if harm == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif harm == "other keys":
        (tmp_path / "backup" / KEYS / "log_signer.key").write_bytes((home / KEYS / "grant_signer.key").read_bytes())
    else:
        with closing(sqlite3.connect(file)) as database, database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f'DROP TRIGGER "{name}"')
            change = "DELETE FROM audit_leaf" if harm == "leaf gone" else "UPDATE audit_leaf SET data = x'7b7d'"
            database.execute(f'{change} WHERE "index" = 1')
    with pytest.raises((AuditError, LedgerError, sqlite3.Error, SQLAlchemyError)):
        put_back(settings(tmp_path / "new"), tmp_path / "backup", None)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new-*"))


def test_nothing_is_overwritten(home: Path, tmp_path: Path) -> None:
    take(settings(home), tmp_path / "backup", with_keys=True)
    with pytest.raises(BackupError, match="exists"):
        take(settings(home), tmp_path / "backup", with_keys=True)
    with pytest.raises(BackupError, match="not empty"):
        put_back(settings(home), tmp_path / "backup", None)
    shutil.rmtree(tmp_path / "backup" / "objects")
    with pytest.raises(BackupError, match="not a backup"):
        put_back(settings(tmp_path / "new"), tmp_path / "backup", None)


def test_other_databases_and_stores_are_not_pretended_to_be_backed_up(home: Path, tmp_path: Path) -> None:
    for other in ({"database_url": "postgresql+psycopg://x@localhost/x"}, {"objects_url": "s3://bucket"}):
        with pytest.raises(BackupError, match=r"production\.md"):
            take(CoreSettings(home=home, **other), tmp_path / "backup", with_keys=False)

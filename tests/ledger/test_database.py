"""One database, many threads and processes: nobody's write is lost, no reader writes, moments keep their zone."""

from __future__ import annotations

import multiprocessing
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.merkle import Frontier
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf, Subject, Tenant, Voice

NOW = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
STEPS = 20


def tenant(name: str) -> Tenant:
    return Tenant(id=name, name="0", created_at=NOW)


def count_up(url: str, keys: str, name: str) -> None:
    """Read a number, add one, write it back and log it, as a process of its own."""
    database, log = Database(url), Log(KeyRing.open(Path(keys)), "test.example/log")
    for step in range(STEPS):
        with database.write() as session:
            row = session.get_one(Tenant, "ten_1", with_for_update=True)
            row.name = str(int(row.name) + 1)
            session.add(tenant(f"ten_{name}_{step}"))
            log.append(session, Entry(Tag.TENANT_CREATE, None, name))
    database.close()


def test_processes_lose_no_write_and_grow_one_tree(database_url: str, tmp_path: Path) -> None:
    keyring = KeyRing.open(tmp_path / "keys", create=True)
    database, log = Database(database_url), Log(keyring, "test.example/log")
    with database.write() as session:
        session.add(tenant("ten_1"))
    spawn = multiprocessing.get_context("spawn")
    arguments = (database_url, str(tmp_path / "keys"))
    processes = [spawn.Process(target=count_up, args=(*arguments, name)) for name in ("api", "worker")]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        with database.read() as session:
            # A snapshot in the middle of it all agrees with itself.
            leaves = log.size(session)
            assert int(session.get_one(Tenant, "ten_1").name) == leaves
        time.sleep(0.01)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    frontier = Frontier()
    with database.write() as session:
        assert session.get_one(Tenant, "ten_1").name == str(2 * STEPS)
        assert session.scalar(select(func.count()).select_from(Tenant)) == 1 + 2 * STEPS
        for leaf in session.scalars(select(AuditLeaf).order_by(AuditLeaf.index)):
            frontier.push(leaf.hash)
        head = Checkpoint.open(log.checkpoint(session), log.verifier)
    assert (head.size, head.root) == (2 * STEPS, frontier.root())
    database.close()


def test_a_writer_waits_for_the_other(database: Database) -> None:
    with database.write() as session:
        session.add(tenant("ten_1"))
    order: list[str] = []

    def second() -> None:
        with database.write() as session:
            session.get_one(Tenant, "ten_1", with_for_update=True).name = "second"
            order.append("second")

    with database.write() as session:
        session.get_one(Tenant, "ten_1", with_for_update=True).name = "first"
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.add(tenant("ten_1"))
        session.flush()
        raise ZeroDivisionError
    with database.read() as session:
        assert session.get(Tenant, "ten_1") is None


def test_a_reader_cannot_write_and_a_writer_afterwards_can(database: Database) -> None:
    """Connections are pooled: what a reader forbade itself must not stick to the next writer."""
    for number in range(3):
        with database.read() as session, pytest.raises(Exception, match=r"read-?only"):
            session.execute(text("DELETE FROM tenant"))
        with database.write() as session:
            session.add(tenant(f"ten_{number}"))


def test_a_reader_sees_one_snapshot(database: Database) -> None:
    with database.write() as session:
        session.add(tenant("ten_1"))
    with database.read() as reader:
        assert reader.scalar(select(func.count()).select_from(Tenant)) == 1
        with database.write() as session:
            session.add(tenant("ten_2"))
        assert reader.scalar(select(func.count()).select_from(Tenant)) == 1
    with database.read() as reader:
        assert reader.scalar(select(func.count()).select_from(Tenant)) == 2


def test_rows_of_one_transaction_go_in_in_any_order(database: Database) -> None:
    with database.write() as session:
        session.add(Subject(id="sub_1", tenant_id="ten_1", wrapped_key=b"k", created_at=NOW))
        session.flush()
        session.add(tenant("ten_1"))


def test_a_row_that_refers_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), database.write() as session:
        session.add(Voice(id="voice_1", tenant_id="ten_0", consent_id="cons_0", name="V", created_at=NOW))
    with database.read() as session:
        assert session.get(Voice, "voice_1") is None


def test_moments_come_back_in_utc(database: Database) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    with database.write() as session:
        session.add(Tenant(id="ten_1", name="T", created_at=elsewhere))
    with database.read() as session:
        found = session.get_one(Tenant, "ten_1").created_at
        assert (found, found.utcoffset()) == (NOW, timedelta(0))
        assert session.scalars(select(Tenant.id).where(Tenant.created_at <= elsewhere)).all() == ["ten_1"]


def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="time zone"), database.write() as session:
        session.add(Tenant(id="ten_1", name="T", created_at=NOW.replace(tzinfo=None)))


def test_sqlite_survives_a_power_cut_and_forgets_what_is_deleted(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
        }
    database.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 30_000,
    }


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x"])
def test_a_database_that_cannot_keep_the_promises_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"memory|not a database"):
        Database(url)

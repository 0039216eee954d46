"""Searching the log finds what is there, all of it, in order, and never looks at more than its share at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from vivavoce.audit import search as searching
from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.search import Query, search
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf


@pytest.fixture
def log(keyring: KeyRing) -> Log:
    return Log(keyring, "test.example/log")


def write(database: Database, log: Log, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            tag = Tag.KEY_CREATE if number % 3 == 0 else Tag.JOB_INTENT
            log.append(session, Entry(tag, f"ten_{number % 2}", f"key_{number % 5}", {"job": f"job_{number}"}, {}))


def test_everything_is_found_page_by_page(database: Database, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "READ_AT_ONCE", 7)
    write(database, log, 40)
    for query, expected in (
        (Query(), list(range(40))),
        (Query(tag=Tag.KEY_CREATE), list(range(0, 40, 3))),
        (Query(named=[["key_1"]]), list(range(1, 40, 5))),
        (Query(named=[["key_1", "job_7"]]), sorted([7, *range(1, 40, 5)])),
        (Query(named=[["key_1"], ["ten_0"]]), list(range(6, 40, 10))),
        (Query(named=[["job_3"]]), [3]),
        (Query(named=[["job_"]]), []),
        (Query(named=[['x" OR 1=1']]), []),
    ):
        found: list[int] = []
        before, pages = None, 0
        with database.read() as session:
            while pages == 0 or before is not None:
                page = search(session, log, query, before, 4)
                assert len(page.leaves) <= 4
                found += [leaf.index for leaf in page.leaves]
                before, pages = page.before, pages + 1
                assert pages < 50
        assert found == expected[::-1], query


def test_time_is_found_by_halving(database: Database, log: Log) -> None:
    write(database, log, 9)
    with database.read() as session:
        times = [session.get_one(AuditLeaf, index).created_at for index in range(9)]
        middle = search(session, log, Query(since=times[3], until=times[6]), None, 50)
        assert [leaf.index for leaf in middle.leaves] == [5, 4, 3]
        later = search(session, log, Query(since=times[8] + timedelta(seconds=1)), None, 50)
        assert later.leaves == [] and later.before is None

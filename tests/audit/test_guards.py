"""Nobody changes the log through the database, and nothing that was changed behind its back gets signed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, text
from tests.audit.logs import fill, root_of_rows, signed, unguard

from vivavoce.audit.errors import LogBroken
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.tables import AuditLeaf

NOW = datetime(2026, 11, 23, tzinfo=UTC)


class TestGuards:
    """The database itself refuses, whoever asks."""

    def test_changes_are_refused(self, database: Database, log: Log) -> None:
        self._refused(
            database,
            log,
            "UPDATE audit_leaf SET data = data",
            """UPDATE audit_leaf SET tag = 'x' WHERE "index" = 1""",
            """DELETE FROM audit_leaf WHERE "index" = 2""",
            "DELETE FROM audit_leaf",
            """UPDATE audit_node SET "index" = 9""",
            "DELETE FROM audit_node",
            "UPDATE audit_checkpoint SET note = ''",
            "DELETE FROM audit_checkpoint",
        )

    def test_replacing_is_refused(self, database: Database, log: Log) -> None:
        """SQLite's REPLACE deletes without asking DELETE triggers; PostgreSQL's upsert asks UPDATE triggers."""
        keys = {"audit_leaf": '"index"', "audit_node": 'level, "index"', "audit_checkpoint": "size"}
        for table, key in keys.items():
            if database.url.startswith("sqlite"):
                self._refused(database, log, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
            else:
                copy = f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({key})"
                column = "size" if table == "audit_checkpoint" else "hash"
                self._refused(database, log, f"{copy} DO UPDATE SET {column} = excluded.{column}")

    def test_not_even_truncate_or_a_replica_session(self, database: Database, log: Log) -> None:
        if database.url.startswith("sqlite"):
            self._refused(database, log, "PRAGMA recursive_triggers = OFF; DELETE FROM audit_leaf")
            return
        for table in ("audit_leaf", "audit_node", "audit_checkpoint"):
            self._refused(
                database,
                log,
                f"TRUNCATE {table} CASCADE",
                f"SET LOCAL session_replication_role = replica; DELETE FROM {table}",
            )

    def test_a_leaf_that_does_not_follow_the_last_is_refused(self, database: Database, log: Log) -> None:
        fill(database, log, 4)
        for index in (1, 3, 5, 1000, -1):
            self._no_leaf_at(database, index)
        assert root_of_rows(database)[0] == 4

    def _no_leaf_at(self, database: Database, index: int) -> None:
        row = {"index": index, "data": b"{}", "hash": b"0" * 32, "tag": "job:intent", "created_at": NOW}
        with pytest.raises(Exception, match="does not follow the last leaf"), database.write() as session:
            session.execute(insert(AuditLeaf).values(row))

    def _refused(self, database: Database, log: Log, *statements: str) -> None:
        fill(database, log, 4)
        before, head = root_of_rows(database), signed(database, log)
        for statement in statements:
            with pytest.raises(Exception, match=r"append-only|does not follow"), database.write() as session:
                for part in statement.split("; "):
                    session.execute(text(part))
        assert root_of_rows(database) == before
        assert signed(database, log) == head


class TestSigner:
    """Rows changed behind the guards: the log does not put its signature on the result."""

    @pytest.mark.parametrize(
        "statement",
        [
            'DELETE FROM audit_leaf WHERE "index" = 4',
            'UPDATE audit_leaf SET hash = (SELECT hash FROM audit_leaf WHERE "index" = 0) WHERE "index" = 4',
            'UPDATE audit_node SET hash = (SELECT hash FROM audit_leaf WHERE "index" = 0) WHERE level = 2',
            "DELETE FROM audit_node WHERE level = 2",
            "UPDATE audit_checkpoint SET note = replace(note, 'test.example', 'evil.example')",
        ],
    )
    def test_it_signs_no_head_that_contradicts_an_earlier_one(
        self, database: Database, log: Log, statement: str
    ) -> None:
        fill(database, log, 5)
        signed(database, log)
        unguard(database)
        with database.write() as session:
            session.execute(text(statement))
        with pytest.raises(LogBroken):
            signed(database, log)

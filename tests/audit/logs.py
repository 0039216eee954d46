"""A log for tests: filled, signed, read back, and robbed of its guards."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text

from vivavoce.audit import merkle
from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.tables import AuditLeaf


def entry(number: int = 0, **facts: Any) -> Entry:
    return Entry(Tag.JOB_INTENT, None, "operator", {"job": f"job_{number}"}, facts)


def fill(database: Database, log: Log, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            log.append(session, entry(number))


def root_of_rows(database: Database) -> tuple[int, bytes]:
    """The root over what the rows say now, by nothing but the leaves' data."""
    frontier = merkle.Frontier()
    with database.read() as session:
        for data in session.scalars(select(AuditLeaf.data).order_by(AuditLeaf.index)):
            frontier.push(merkle.leaf_hash(data))
    return frontier.size, frontier.root()


def signed(database: Database, log: Log) -> Checkpoint:
    with database.write() as session:
        return Checkpoint.open(log.checkpoint(session), log.verifier)


def unguard(database: Database) -> None:
    """Take the database's own guards away, as somebody with all rights on it could."""
    with database.write() as session:
        if database.url.startswith("sqlite"):
            for trigger in session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                session.execute(text(f"DROP TRIGGER {trigger}"))
        else:
            for table in ("audit_leaf", "audit_node", "audit_checkpoint"):
                session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))

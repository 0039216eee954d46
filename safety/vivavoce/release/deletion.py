"""Deleting objects for good: what must go is written down with the decision, and is gone after the next look.

A row says of an object that it must be deleted, in the very transaction that makes it unwanted. Whoever is killed in
between leaves the rows to any worker's reaper; deleting twice does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.rights import DoomedObject
from vivavoce.ledger.tables import Output

Why = Literal["erased", "retention"]

_PAGE = 200
"""Objects that are deleted between two looks at the database."""


def doom(session: Session, keys: Iterable[str], why: Why, now: datetime) -> int:
    """Write down that objects must be deleted, once the caller's transaction is committed; returns how many are new."""
    wanted, new = sorted(set(keys)), 0
    for start in range(0, len(wanted), _PAGE):
        page = wanted[start : start + _PAGE]
        known = set(session.scalars(select(DoomedObject.object_key).where(DoomedObject.object_key.in_(page))))
        session.add_all(DoomedObject(object_key=key, why=why, created_at=now) for key in page if key not in known)
        new += len(page) - len(known)
    session.flush()
    return new


def delete_doomed(database: Database, store: ObjectStore, log: Log, actor: str) -> int:
    """Delete everything that is written down to be deleted; returns the number of objects. Logged with counts.

    Raises:
        ObjectStoreUnavailable: The store does not answer. What is left stays written down.
        LogUnavailable: The deletions cannot be logged; they will be found done, and logged, at the next call.
    """
    total = 0
    while True:
        with database.read() as session:
            keys = session.scalars(select(DoomedObject.object_key).limit(_PAGE)).all()
        if not keys:
            return total
        for key in keys:
            store.delete(key)
        with database.write() as session:
            total += _strike_out(session, log, list(keys), actor, datetime.now(UTC))


def _strike_out(session: Session, log: Log, keys: list[str], actor: str, now: datetime) -> int:
    """Take objects off the list, and log how many. Of two who deleted the same ones, one counts them."""
    gone = session.scalars(
        delete(DoomedObject).where(DoomedObject.object_key.in_(keys)).returning(DoomedObject.why)
    ).all()
    session.execute(update(Output).where(Output.object_key.in_(keys)).values(deleted_at=now))
    for why, number in sorted(Counter(gone).items()):
        log.append(session, Entry(Tag.OBJECT_DELETE, None, actor, {}, {"why": why, "objects": number}))
    return len(gone)

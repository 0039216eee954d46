"""Objects that belong to a transaction: stored at once, and deleted again if it is rolled back.

A process that is killed between the two leaves a sealed object that no row names; it never leaves a row without one.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import event
from sqlalchemy.orm import Session

from vivavoce.ledger.errors import ObjectStoreUnavailable
from vivavoce.ledger.objects import ObjectStore

_STAGED = "vivavoce_staged_objects"


def put_staged(session: Session, store: ObjectStore, key: str, data: bytes) -> None:
    """Store a new object that lives only if the session's transaction is committed.

    Raises:
        ObjectStoreUnavailable: It could not be stored.
    """
    if _STAGED not in session.info:
        session.info[_STAGED] = []
        event.listen(session, "after_commit", _keep)
        event.listen(session, "after_rollback", _discard)
    # Noted before it is stored: a write that failed halfway is cleaned up too.
    session.info[_STAGED].append((store, key))
    store.put(key, data)


def _keep(session: Session) -> None:
    session.info[_STAGED].clear()


def _discard(session: Session) -> None:
    for store, key in session.info[_STAGED]:
        # The reason for the rollback is what the caller must hear of, not that the store is away as well.
        with suppress(ObjectStoreUnavailable):
            store.delete(key)
    session.info[_STAGED].clear()

"""The audit log: an append-only Merkle tree (RFC 6962) in the ledger's database.

What is guaranteed, stage by stage:
- *appended*: `append` returned. The entry has its place, and becomes true together with the caller's transaction, or
  never. Nobody else can append until then: append late, commit soon, and lock rows before appending, never after.
- *committed*: the caller's transaction ended. The database refuses to change or delete the entry.
- *signed*: a checkpoint covers it. Whoever holds that checkpoint can prove any later change.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import bindparam, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from vivavoce.audit import entries, merkle
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import LogBroken, LogUnavailable, NoSuchProof, NoteInvalid
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.errors import Erased, LedgerError, SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditCheckpoint, AuditLeaf, AuditPayload, Subject

_APPEND_LOCK = 0x7669_7661_0002
"""PostgreSQL advisory lock that its holder alone may append under."""

# Built once, over the tables and not their classes: putting a statement together takes longer than running it.
_LEAVES, _NODES = AuditLeaf.metadata.tables["audit_leaf"], AuditLeaf.metadata.tables["audit_node"]
_LAST = select(func.max(_LEAVES.c.index))
_LEAF_HASH = select(_LEAVES.c.hash).where(_LEAVES.c.index == bindparam("at"))
_NODE_HASH = select(_NODES.c.hash).where(_NODES.c.level == bindparam("level"), _NODES.c.index == bindparam("at"))
_ADD_LEAF, _ADD_NODES = insert(_LEAVES), insert(_NODES)


class Log:
    """This installation's log. Holds no state but its keys: share it between threads, make one per process.

    Args:
        origin: The log's name in its checkpoints and of its key.
    """

    def __init__(self, keyring: KeyRing, origin: str) -> None:
        self._keyring = keyring
        self.origin = origin
        self.verifier = Verifier(origin, keyring.log_verifier)
        """The key that a stranger needs for what is signed now."""
        self.verifiers = tuple(Verifier(origin, log) for log, _ in keyring.log_verifiers)
        """It, and those that this log's earlier heads may be signed with."""

    def append(
        self, session: Session, entry: Entry, personal: bytes | None = None, subject: Subject | None = None
    ) -> int:
        """Append an entry in the caller's write transaction; returns its leaf index. The only writer of the log.

        Args:
            personal: What must not outlive the subject: sealed under their key, committed to in the leaf.
            subject: Whose; needed with `personal`.

        Raises:
            LogUnavailable: It could not be written. The transaction is rolled back: nothing of it can be committed.
            EntryInvalid: The entry itself cannot be written; so it is with that transaction too.
        """
        if (personal is None) != (subject is None):
            raise ValueError("a personal part and its subject come together")
        session.flush()
        with _all_or_nothing(session):
            _wait_for_others(session)
            index = self.size(session)
            time = datetime.now(UTC)
            salt = secrets.token_bytes(entries.SALT_BYTES)
            commitment = None if personal is None else entries.commit(salt, personal)
            data = entries.encode(entry, index, time, commitment)
            self._grow(session, index, data, entry, time)
            if personal is not None and subject is not None:
                sealed = seal(self._keyring, subject, salt + personal, _payload_place(index))
                row = {"leaf_index": index, "subject_id": subject.id, "sealed": sealed}
                session.execute(insert(AuditPayload.__table__), row)  # type: ignore[arg-type]
        return index

    def size(self, session: Session) -> int:
        """Count the leaves."""
        last = session.connection().scalar(_LAST)
        return 0 if last is None else last + 1

    def checkpoint(self, session: Session) -> str:
        """Sign the log's present head and keep it; returns the signed note. Needs a write transaction.

        Raises:
            LogBroken: The tree contradicts the last signed head: somebody changed rows behind the database's guards.
            LogUnavailable: It could not be written.
        """
        with _all_or_nothing(session):
            _wait_for_others(session)
            size = self.size(session)
            last = session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)).first()
            if last is not None:
                self.require_beginning(session, self.signed(last))
                if last.size == size:
                    return last.note
            root = self.root(session, size)
            note = Checkpoint(self.origin, size, root).sign(*self._keyring.log_signers)
            session.add(AuditCheckpoint(size=size, root=root, note=note, created_at=datetime.now(UTC)))
            session.flush()
            return note

    def signed(self, row: AuditCheckpoint) -> Checkpoint:
        """Read what a stored checkpoint's note says; raises `LogBroken` where the row says otherwise."""
        try:
            head = Checkpoint.open(row.note, *self.verifiers)
        except NoteInvalid as error:
            raise LogBroken(f"the last checkpoint (size {row.size}) is not ours: {error}") from error
        if head.size != row.size:
            raise LogBroken(f"the last checkpoint stands at size {row.size}, its note is of {head.size} leaves")
        return head

    def root(self, session: Session, size: int) -> bytes:
        """Compute the root of the first `size` leaves from the stored hashes; raises `LogBroken` where one is gone."""
        return merkle.root(size, _reader(session))

    def require_beginning(self, session: Session, head: Checkpoint) -> None:
        """Raise `LogBroken` unless a head that was signed before is a beginning of what is stored now."""
        size = self.size(session)
        if head.size > size:
            raise LogBroken(f"{head.size} leaves were signed, only {size} are left")
        if self.root(session, head.size) != head.root:
            raise LogBroken(f"the first {head.size} leaves are not those that were signed")

    def inclusion(self, session: Session, index: int, size: int) -> list[bytes]:
        """Prove that leaf `index` is in the tree of the first `size` leaves; raises `NoSuchProof`."""
        if not 0 <= index < size <= self.size(session):
            raise NoSuchProof(f"no leaf {index} in a tree of {size}")
        return merkle.inclusion(index, size, _reader(session))

    def consistency(self, session: Session, old: int, new: int) -> list[bytes]:
        """Prove that the first `old` leaves are a beginning of the first `new` leaves; raises `NoSuchProof`."""
        if not 0 <= old <= new <= self.size(session):
            raise NoSuchProof(f"no proof from {old} to {new} leaves")
        return merkle.consistency(old, new, _reader(session))

    def personal(self, session: Session, index: int) -> bytes:
        """Read the personal part of an entry.

        Raises:
            NoSuchProof: There is no such entry, or it has no personal part.
            Erased: The person has left.
            SealBroken: The payload is not the one that the leaf committed to.
        """
        leaf = session.get(AuditLeaf, index)
        commitment = entries.commitment(leaf.data) if leaf else None
        if commitment is None:
            raise NoSuchProof(f"leaf {index} has no personal part")
        payload = session.get(AuditPayload, index)
        subject = session.get(Subject, payload.subject_id) if payload else None
        if payload is None or subject is None:
            raise Erased(f"the personal part of leaf {index} is deleted")
        opened = unseal(self._keyring, subject, payload.sealed, _payload_place(index))
        salt, personal = opened[: entries.SALT_BYTES], opened[entries.SALT_BYTES :]
        if not hmac.compare_digest(entries.commit(salt, personal), commitment):
            raise SealBroken(f"the personal part of leaf {index} is not what the leaf committed to")
        return personal

    def _grow(self, session: Session, index: int, data: bytes, entry: Entry, time: datetime) -> None:
        leaf = merkle.leaf_hash(data)
        row = {
            "index": index,
            "data": data,
            "hash": leaf,
            "tag": str(entry.tag),
            "tenant_id": entry.tenant_id,
            "created_at": time,
        }
        # Plain inserts: the log's rows need not live in the session.
        connection = session.connection()
        connection.execute(_ADD_LEAF, row)
        nodes = [
            {"level": level, "index": position, "hash": hash_}
            for level, position, hash_ in merkle.completed(index, leaf, _reader(session))
        ]
        if nodes:
            connection.execute(_ADD_NODES, nodes)


@contextmanager
def _all_or_nothing(session: Session) -> Iterator[None]:
    """Roll back on any error, so that a caller who swallows it still cannot commit the deed without its entry."""
    try:
        yield
    except (SQLAlchemyError, LedgerError) as error:
        session.rollback()
        # Not the error's own text: it quotes the rows.
        raise LogUnavailable(f"the audit log cannot be written ({type(error).__name__})") from error
    except BaseException:
        session.rollback()
        raise


def _wait_for_others(session: Session) -> None:
    # On SQLite the write transaction itself excludes all others.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _APPEND_LOCK})


def _reader(session: Session) -> merkle.Node:
    connection = session.connection()

    def node(level: int, index: int) -> bytes:
        if level == 0:
            found = connection.scalar(_LEAF_HASH, {"at": index})
        else:
            found = connection.scalar(_NODE_HASH, {"level": level, "at": index})
        if found is None:
            raise LogBroken(f"node {index} of level {level} is gone")
        return bytes(found)

    return node


def _payload_place(index: int) -> bytes:
    return f"audit_payload.sealed:{index}".encode()

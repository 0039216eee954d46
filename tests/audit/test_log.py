"""The log is written before the deed, in one unbroken tree, and never changed: promises 4 and 5 of the design."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import func, select, text
from tests.audit.logs import entry, fill, root_of_rows, signed

from vivavoce.audit import merkle
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import EntryInvalid, LogUnavailable, NoSuchProof
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.envelope import destroy_subject_key, new_subject_key
from vivavoce.ledger.errors import Erased, SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditCheckpoint, AuditLeaf, AuditNode, AuditPayload, Subject, Tenant

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_a_leaf_says_what_happened_in_canonical_json(database: Database, log: Log) -> None:
    with database.write() as session:
        session.add(Tenant(id="ten_1", name="T", created_at=NOW))
        said = Entry(Tag.CONSENT_REFUSE, "ten_1", "key_1", {"consent": "cons_1"}, {"code": "consent_expired", "n": 1.0})
        assert log.append(session, said) == 0
    with database.read() as session:
        leaf = session.get_one(AuditLeaf, 0)
    said_back = json.loads(leaf.data)
    time = said_back.pop("time")
    assert said_back == {
        "v": 1,
        "index": 0,
        "tag": "consent:refuse",
        "tenant": "ten_1",
        "actor": "key_1",
        "refs": {"consent": "cons_1"},
        "facts": {"code": "consent_expired", "n": 1},
        "personal": None,
    }
    assert datetime.fromisoformat(time) == leaf.created_at
    assert leaf.data.startswith(b'{"actor":"key_1","facts":{"code":"consent_expired","n":1},"index":0,')
    assert (leaf.tag, leaf.tenant_id, leaf.hash) == ("consent:refuse", "ten_1", merkle.leaf_hash(leaf.data))


def test_every_signed_head_is_the_tree_of_the_rows(database: Database, log: Log) -> None:
    for size in range(18):
        head = signed(database, log)
        assert (head.size, head.root) == root_of_rows(database)
        assert head.size == size
        assert signed(database, log) == head, "signing again changes nothing"
        fill(database, log, 1)


def test_proofs_from_the_database_verify(database: Database, log: Log) -> None:
    fill(database, log, 11)
    old = signed(database, log)
    fill(database, log, 9)
    new = signed(database, log)
    with database.read() as session:
        assert merkle.verify_consistency(11, 20, old.root, new.root, log.consistency(session, 11, 20))
        for index in range(20):
            leaf = session.get_one(AuditLeaf, index).hash
            assert merkle.verify_inclusion(leaf, index, 20, log.inclusion(session, index, 20), new.root)
        for index in range(11):
            leaf = session.get_one(AuditLeaf, index).hash
            assert merkle.verify_inclusion(leaf, index, 11, log.inclusion(session, index, 11), old.root)


def test_there_is_no_proof_beyond_the_log(database: Database, log: Log) -> None:
    fill(database, log, 3)
    with database.read() as session:
        for index, size in [(-1, 3), (3, 3), (0, 4), (0, 0), (10**30, 10**31)]:
            with pytest.raises(NoSuchProof):
                log.inclusion(session, index, size)
        for old, new in [(-1, 3), (3, 4), (3, 2), (0, 10**30)]:
            with pytest.raises(NoSuchProof):
                log.consistency(session, old, new)


def test_a_rolled_back_transaction_leaves_no_leaf(database: Database, log: Log) -> None:
    fill(database, log, 3)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        log.append(session, entry(3))
        raise ZeroDivisionError
    fill(database, log, 1)
    assert signed(database, log).size == 4
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditLeaf)) == 4


def test_a_swallowed_log_failure_cannot_commit_the_deed(database: Database, log: Log) -> None:
    """Whoever forgets to let LogUnavailable through does not get an unlogged deed."""
    with database.write() as session:
        session.execute(text("DROP TABLE audit_node"))
        session.execute(text("DROP TABLE audit_payload"))
    with database.write() as session:
        log.append(session, entry(0))
    with database.write() as session:
        session.add(Tenant(id="ten_1", name="T", created_at=NOW))
        session.flush()
        with pytest.raises(LogUnavailable):
            log.append(session, entry(1))
    with database.read() as session:
        assert session.get(Tenant, "ten_1") is None
        assert session.scalar(select(func.count()).select_from(AuditLeaf)) == 1


def test_a_log_that_stays_locked_refuses(database: Database, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds the log's lock for too long makes others fail, clearly, instead of hanging them for ever."""
    monkeypatch.setattr("vivavoce.ledger.database.LOCK_TIMEOUT_SECONDS", 1)
    impatient = Database(database.url)
    with database.write() as session:
        log.append(session, entry(0))
        with pytest.raises(LogUnavailable), impatient.write() as other:
            log.append(other, entry(1))
    fill(impatient, log, 1)
    impatient.close()
    assert root_of_rows(database)[0] == 2


def test_a_read_session_cannot_append(database: Database, log: Log) -> None:
    with database.read() as session, pytest.raises(LogUnavailable):
        log.append(session, entry())


def test_what_json_cannot_say_is_refused_whole(database: Database, log: Log) -> None:
    hopeless: list[dict[str, Any]] = [
        {"n": float("nan")},
        {"n": 2**60},
        {"t": "\ud800"},
        {"t": "x" * 70000},
        {"t": b"bytes"},
        {1: "number as name"},  # type: ignore[dict-item]
    ]
    for facts in hopeless:
        with pytest.raises(EntryInvalid), database.write() as session:
            session.add(Tenant(id="ten_1", name="T", created_at=NOW))
            log.append(session, Entry(Tag.JOB_INTENT, None, "operator", {}, facts))
    assert root_of_rows(database)[0] == 0
    with database.read() as session:
        assert session.get(Tenant, "ten_1") is None


def test_threads_append_one_unbroken_tree(database: Database, log: Log) -> None:
    def work(number: int) -> None:
        for step in range(8):
            with database.write() as session:
                log.append(session, entry(100 * number + step))
                if step == 4:
                    log.checkpoint(session)

    run_together([partial(work, number) for number in range(5)])
    head = signed(database, log)
    assert (head.size, head.root) == (40, root_of_rows(database)[1])
    with database.read() as session:
        said = {json.loads(data)["refs"]["job"] for data in session.scalars(select(AuditLeaf.data))}
        heads = session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size)).all()
        for before, after in pairwise(heads):
            path = log.consistency(session, before.size, after.size)
            assert merkle.verify_consistency(before.size, after.size, before.root, after.root, path)
    assert said == {f"job_{100 * number + step}" for number in range(5) for step in range(8)}


def run_together(works: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


class TestPersonal:
    """A person can leave, and every old proof still verifies (promise 6)."""

    def _subject(self, database: Database, keyring: KeyRing) -> None:
        with database.write() as session:
            session.add(Tenant(id="ten_1", name="T", created_at=NOW))
            key = new_subject_key(keyring, "sub_1")
            session.add(Subject(id="sub_1", tenant_id="ten_1", wrapped_key=key, created_at=NOW))

    def _append(self, database: Database, log: Log, personal: bytes) -> int:
        with database.write() as session:
            return log.append(session, entry(), personal, session.get_one(Subject, "sub_1"))

    def test_the_leaf_says_nothing_and_the_payload_opens(self, database: Database, log: Log, keyring: KeyRing) -> None:
        self._subject(database, keyring)
        first, second = (self._append(database, log, b"Ada Lovelace") for _ in range(2))
        with database.read() as session:
            assert log.personal(session, first) == log.personal(session, second) == b"Ada Lovelace"
            leaves = session.scalars(select(AuditLeaf).order_by(AuditLeaf.index)).all()
            commitments = {json.loads(leaf.data)["personal"] for leaf in leaves}
            assert len(commitments) == 2, "equal personal parts must not be recognisable"
            assert not any(b"Ada" in leaf.data for leaf in leaves)
            assert not any(b"Ada" in payload.sealed for payload in session.scalars(select(AuditPayload)))
            with pytest.raises(NoSuchProof):
                log.personal(session, 2)

    def test_after_erasure_proofs_verify_and_the_payload_is_gone(
        self, database: Database, log: Log, keyring: KeyRing
    ) -> None:
        self._subject(database, keyring)
        fill(database, log, 3)
        index = self._append(database, log, b"Ada Lovelace")
        fill(database, log, 3)
        head = signed(database, log)
        with database.write() as session:
            destroy_subject_key(session.get_one(Subject, "sub_1"), NOW)
        fill(database, log, 2)
        later = signed(database, log)
        with database.read() as session:
            with pytest.raises(Erased):
                log.personal(session, index)
            leaf = session.get_one(AuditLeaf, index).hash
            path = log.inclusion(session, index, head.size)
            assert merkle.verify_inclusion(leaf, index, head.size, path, head.root)
            path = log.consistency(session, head.size, later.size)
            assert merkle.verify_consistency(head.size, later.size, head.root, later.root, path)
        with pytest.raises(LogUnavailable):
            self._append(database, log, b"more")

    def test_a_payload_moved_to_another_leaf_does_not_open(
        self, database: Database, log: Log, keyring: KeyRing
    ) -> None:
        self._subject(database, keyring)
        first, second = self._append(database, log, b"yes"), self._append(database, log, b"no")
        with database.write() as session:
            sealed = session.get_one(AuditPayload, second).sealed
            session.get_one(AuditPayload, first).sealed = sealed
        with database.read() as session, pytest.raises(SealBroken):
            log.personal(session, first)

    def test_nodes_are_kept_once_and_only_when_complete(self, database: Database, log: Log) -> None:
        fill(database, log, 13)
        with database.read() as session:
            kept = {(node.level, node.index) for node in session.scalars(select(AuditNode))}
        assert kept == {(1, n) for n in range(6)} | {(2, n) for n in range(3)} | {(3, 0)}

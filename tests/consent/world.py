"""A small world for the tests of consent, policy and release: tenants, consents and voices on a real ledger."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from vivavoce.audit.log import Log
from vivavoce.consent import Scope
from vivavoce.consent.service import check_recording, create_consent, revoke
from vivavoce.ledger.database import Database
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import Lease, claim
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import ApiKey, AuditLeaf, Consent, Job, JobKind, Tenant, Voice
from vivavoce.policy.admission import Submission, admit

SPEECH = Path(__file__).parents[1] / "data" / "speech"
RECORDING = check_recording((SPEECH / "austen-0880.flac").read_bytes())
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TTL = timedelta(seconds=30)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests that ask nothing of the database."""


@dataclass(frozen=True)
class Account:
    """A tenant with one API key."""

    tenant_id: str
    key_id: str


class World:
    """A ledger, a log and a store, and somebody who consents."""

    def __init__(self, database: Database, keyring: KeyRing) -> None:
        self.database = database
        self.keyring = keyring
        self.store = ObjectStore("memory://")
        self.log = Log(keyring, "test.example/log")
        self.account = self.join("tenant")

    def join(self, name: str) -> Account:
        tenant = Tenant(id=new_id("ten"), name=name, created_at=NOW)
        key = ApiKey(
            id=new_id("key"),
            tenant_id=tenant.id,
            name=name,
            prefix="vv",
            digest=secrets.token_hex(32),
            scopes=[],
            created_at=NOW,
        )
        with self.database.write() as session:
            session.add_all([tenant, key])
        return Account(tenant.id, key.id)

    def consent(self, account: Account | None = None, now: datetime = NOW, scope: Scope = Scope()) -> str:  # noqa: B008
        account = account or self.account
        with self.database.write() as session:
            return create_consent(
                session,
                self.log,
                self.store,
                self.keyring,
                tenant_id=account.tenant_id,
                actor=account.key_id,
                name="Jane Reader",
                recording=RECORDING,
                language="en",
                scope=scope,
                now=now,
            ).id

    def voice(self, consent_id: str, account: Account | None = None) -> str:
        voice = Voice(
            id=new_id("voice"),
            tenant_id=(account or self.account).tenant_id,
            consent_id=consent_id,
            name="Jane",
            created_at=NOW,
        )
        with self.database.write() as session:
            session.add(voice)
        return voice.id

    def submission(self, voice_id: str | None, **changes: Any) -> Submission:
        asked: dict[str, Any] = {
            "tenant_id": self.account.tenant_id,
            "api_key_id": self.account.key_id,
            "kind": JobKind.SPEECH,
            "voice_id": voice_id,
            "purpose": "general",
            "request": {"text": "He was not an ill-disposed young man.", "seed": 1},
            "format": "wav",
        }
        return Submission(**asked | changes)

    def admit(self, submission: Submission, now: datetime = NOW) -> Job:
        with self.database.write() as session:
            return admit(session, self.log, self.keyring, self.store, submission, now)

    def claim(self, job_id: str, owner: str = "worker-1", now: datetime = NOW) -> Lease:
        with self.database.write() as session:
            lease = claim(session, job_id, owner, now, TTL)
        assert lease is not None
        return lease

    def revoke(self, consent_id: str, now: datetime = NOW) -> None:
        with self.database.write() as session:
            revoke(session, self.log, consent_id, "I changed my mind", "subject", now)

    def change(self, consent_id: str, **columns: Any) -> None:
        with self.database.write() as session:
            for name, value in columns.items():
                setattr(session.get_one(Consent, consent_id), name, value)

    def leaves(self, *tags: str) -> list[dict[str, Any]]:
        with self.database.read() as session:
            data = session.scalars(select(AuditLeaf.data).order_by(AuditLeaf.index))
            return [leaf for leaf in map(json.loads, data) if not tags or leaf["tag"] in tags]

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def count(self, table: str) -> int:
        with self.database.read() as session:
            return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    def snapshot(self) -> dict[str, Any]:
        """All that a refused request must leave as it was."""
        tables = ("subject", "consent", "voice", "job", "output", "audit_leaf", "audit_payload")
        return {table: self.count(table) for table in tables} | {"objects": self.store.list()}

    def break_log(self) -> None:
        """Make the database refuse new leaves, as a full disk or a withdrawn permission would."""
        if self.database.url.startswith("sqlite"):
            statements = [
                "CREATE TRIGGER broken BEFORE INSERT ON audit_leaf BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            ]
        else:
            statements = [
                "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'disk full'; END $$",
                "CREATE TRIGGER broken BEFORE INSERT ON audit_leaf FOR EACH ROW EXECUTE FUNCTION broken()",
            ]
        with self.database.write() as session:
            for statement in statements:
                session.execute(text(statement))


def wait_until(deadline: float) -> None:
    """Sleep to a moment of `time.perf_counter`."""
    time.sleep(max(0.0, deadline - time.perf_counter()))

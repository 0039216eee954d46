"""One installation per test: real SQLite, real store, real log, the real application; no worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from vivavoce.api.app import create_app
from vivavoce.api.keys import create_key
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Services
from vivavoce.api.tenants import create_tenant
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf, Base
from vivavoce.settings import ApiSettings

SPEECH = Path(__file__).parents[1] / "data" / "speech"
RECORDING = (SPEECH / "austen-0870.flac").read_bytes()
CLIP = (SPEECH / "austen-0930.flac").read_bytes()
TRANSCRIPT = "he might even have been made amiable himself"


@dataclass
class Installation:
    """An application with its services, and keys to it."""

    client: TestClient
    services: Services
    tenant: str

    def key(self, *scopes: Scope, tenant: str | None = None) -> dict[str, str]:
        """Make a key; returns the header that carries it. No scopes given means all."""
        with self.services.database.write() as session:
            _, token = create_key(
                session,
                self.services.log,
                self.services.keyring,
                tenant_id=tenant or self.tenant,
                name="test",
                scopes=scopes or Scope,
                now=datetime.now(UTC),
                actor="operator",
            )
        return {"Authorization": f"Bearer {token}"}

    def new_tenant(self) -> str:
        """Enter another customer."""
        with self.services.database.write() as session:
            return create_tenant(session, self.services.log, "another", datetime.now(UTC), "operator").id

    def consent(self, headers: dict[str, str], **fields: Any) -> str:
        """Record a consent; returns its id."""
        answer = self.client.post(
            "/v1/audio/voice_consents",
            headers=headers,
            data={"name": "Reader of Austen", "language": "en"} | fields,
            files={"recording": ("consent.flac", RECORDING)},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def voice(self, headers: dict[str, str], consent: str) -> str:
        """Found a voice; returns its id."""
        answer = self.client.post(
            "/v1/audio/voices",
            headers=headers,
            data={"name": "Austen", "consent": consent, "transcript": TRANSCRIPT},
            files={"audio_sample": ("clip.flac", CLIP)},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def leaves(self, since: int = 0) -> list[dict[str, Any]]:
        """Read the log's entries from an index on."""
        with self.services.database.read() as session:
            rows = session.scalars(select(AuditLeaf.data).where(AuditLeaf.index >= since).order_by(AuditLeaf.index))
            return [json.loads(row) for row in rows]

    def tags(self, since: int = 0) -> list[str]:
        """Read the tags of the log's entries from an index on."""
        return [leaf["tag"] for leaf in self.leaves(since)]

    def state(self) -> dict[str, Any]:
        """Count everything but the log: rows by table, and objects."""
        with self.services.database.read() as session:
            counts: dict[str, Any] = {
                table.name: session.scalar(select(func.count()).select_from(table))
                for table in Base.metadata.sorted_tables
                if not table.name.startswith("audit_")
            }
        return counts | {"objects": self.services.store.list()}


Make = Callable[..., Installation]


@contextmanager
def open_installation(home: Path, template: Path, **settings: Any) -> Iterator[Installation]:
    """Open an installation in a folder, with generous limits unless settings say otherwise."""
    home.mkdir()
    shutil.copy(template, home / "ledger.sqlite3")
    chosen = ApiSettings(**({"home": home, "requests_per_minute": 10_000, "wait_seconds": 0.2} | settings))
    KeyRing.open(chosen.keys_folder, create=True)
    app = create_app(chosen)
    services: Services = app.state.services
    with services.database.write() as session:
        tenant = create_tenant(session, services.log, "test", datetime.now(UTC), "operator")
    with TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50000)) as client:
        yield Installation(client, services, tenant.id)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Installation]:
    """An installation for all tests of one module."""
    with open_installation(tmp_path_factory.mktemp("shared") / "home", _sqlite_template) as opened:
        yield opened


@pytest.fixture
def make(tmp_path: Path, _sqlite_template: Path) -> Iterator[Make]:
    """Make an installation with given settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(open_installation(tmp_path / "home", _sqlite_template, **settings))


@pytest.fixture
def installation(make: Make) -> Installation:
    """An installation with generous limits."""
    return make()

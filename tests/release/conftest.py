"""A world on each database."""

from __future__ import annotations

import pytest
from tests.consent.world import World

from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing


@pytest.fixture
def world(database: Database, keyring: KeyRing) -> World:
    """A fresh world on SQLite and on PostgreSQL."""
    return World(database, keyring)


@pytest.fixture
def small_world(sqlite_url: str, keyring: KeyRing) -> World:
    """A fresh world for tests that ask nothing of the database."""
    return World(Database(sqlite_url), keyring)

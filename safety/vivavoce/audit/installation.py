"""The ledger, log and keys of the installation at hand, for commands that work at the machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import require_head
from vivavoce.ledger.settings import CoreSettings

OPERATOR = "operator"
"""How the log names whoever works at the machine itself."""


@contextmanager
def installation(settings: CoreSettings | None = None) -> Iterator[tuple[Database, Log, KeyRing]]:
    """Open what the settings name, by default the environment's; raises `LedgerError` where there is none."""
    settings = settings or CoreSettings()
    # The keys first: where there are none, there is no installation, and no empty database should appear.
    keyring = KeyRing.open(settings.keys_folder)
    require_head(settings.database_url)
    database = Database(settings.database_url)
    try:
        yield database, Log(keyring, settings.log_origin), keyring
    finally:
        database.close()

"""The schema, up and down, from code: no command line tool and no settings file are needed to migrate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from vivavoce.ledger.database import make_engine
from vivavoce.ledger.errors import SchemaError

_MIGRATION_LOCK = 0x7669_7661_0001
"""PostgreSQL advisory lock that lets one process migrate at a time."""


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to a revision. Several processes may do so at once; nothing is done half."""
    _migrate(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database down to a revision; `base` leaves it empty. Destroys what the newer tables hold."""
    _migrate(url, command.downgrade, revision)


def require_head(url: str) -> None:
    """Raise `SchemaError` unless the database has exactly the schema that this code was written for."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    head = ScriptDirectory(str(scripts_folder())).get_current_head()
    if found != head:
        raise SchemaError(f"the database is at revision {found or 'none'}, this code needs {head}: migrate first")


def scripts_folder() -> Path:
    """Find the migration scripts: beside this module in a wheel, at the top of the repository in a checkout."""
    shipped = Path(__file__).parent / "migrations"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "migrations"


def _migrate(url: str, run: Callable[[Config, str], None], revision: str) -> None:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                # Rebuilding a table would otherwise delete what refers to it; SQLite ignores this inside a transaction.
                cursor = connection.connection.cursor()
                cursor.execute("PRAGMA foreign_keys = OFF")
                cursor.close()
            with connection.begin():
                _wait_for_others(connection)
                config = Config()
                config.set_main_option("script_location", str(scripts_folder()))
                config.attributes["connection"] = connection
                run(config, revision)
    finally:
        engine.dispose()


def _wait_for_others(connection: Connection) -> None:
    # SQLite's BEGIN IMMEDIATE has waited already.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})

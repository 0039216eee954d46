"""The migrations are the schema: equal to the tables in code, reversible, and safe to run from many processes."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from vivavoce.ledger.database import make_engine
from vivavoce.ledger.errors import SchemaError
from vivavoce.ledger.schema import downgrade, require_head, upgrade
from vivavoce.ledger.tables import Base


def _differences(url: str) -> list[Any]:
    engine = make_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[Any] = compare_metadata(context, Base.metadata)
    engine.dispose()
    return found


def _left_over(url: str) -> set[str]:
    """Name everything that a downgrade left behind: tables, indexes, triggers, functions."""
    engine = make_engine(url)
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            found = set(connection.execute(text("SELECT name FROM sqlite_master")).scalars())
        else:
            rows = connection.execute(
                text(
                    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                    "UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
                )
            ).scalars()
            found = set(rows)
    engine.dispose()
    return {name for name in found if not name.startswith("sqlite_")} - {"alembic_version", "alembic_version_pkc"}


def test_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    assert _differences(database_url) == []


def test_a_difference_would_be_seen(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE voice DROP COLUMN deleted_at"))
    engine.dispose()
    assert _differences(database_url) != []


def test_down_leaves_nothing_and_up_again_works(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    assert _left_over(empty_database_url) > {"audit_leaf", "job"}
    downgrade(empty_database_url, "base")
    assert _left_over(empty_database_url) == set()
    upgrade(empty_database_url)
    require_head(empty_database_url)


def test_an_unmigrated_database_is_refused(empty_database_url: str) -> None:
    with pytest.raises(SchemaError):
        require_head(empty_database_url)


def test_a_failing_migration_leaves_nothing_half_done(empty_database_url: str) -> None:
    """A table that is in the way stops the migration after several others were made: they are gone again."""
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE output (id INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        upgrade(empty_database_url)
    assert set(inspect(engine).get_table_names()) == {"output"}
    engine.dispose()


def test_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=upgrade, args=(empty_database_url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    require_head(empty_database_url)

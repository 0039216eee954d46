"""The migrations are the schema: equal to the tables in code, reversible, and safe to run from many processes."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table, inspect, text

from vivavoce.ledger import accounts, batches, rights, streams, webhooks, workers  # noqa: F401 - so that the metadata knows its tables
from vivavoce.ledger.database import Database, make_engine
from vivavoce.ledger.errors import SchemaError
from vivavoce.ledger.schema import downgrade, require_head, upgrade
from vivavoce.ledger.tables import Base, Job
from vivavoce.release.registered import identities


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


OLD_FINDING = {
    "found": True, "score": 0.9, "threshold": 0.5, "message": 12, "confidence": 0.8, "model_id": "m", "seconds": 3.3,
    "segments": [{"start_s": 0.0, "end_s": 1.0, "score": 0.9}],
}  # fmt: skip


def _shape(url: str, table: str) -> list[list[str]]:
    """Columns, indexes and keys of a table."""
    engine = make_engine(url)
    looker = inspect(engine)
    found = [
        looker.get_columns(table), looker.get_indexes(table), looker.get_foreign_keys(table),
        looker.get_unique_constraints(table), [looker.get_pk_constraint(table)],
    ]  # fmt: skip
    engine.dispose()
    return [sorted(map(str, rows)) for rows in found]


def _rows(url: str, statement: str) -> list[Any]:
    engine = make_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def _write(url: str, table: str, **values: Any) -> None:
    """Enter a row, giving every column that must have a value some value."""
    engine = make_engine(url)
    with engine.begin() as connection:
        known = Table(table, MetaData(), autoload_with=connection)
        blank = {int: 0, float: 0.0, str: "x", datetime: datetime.now(UTC), bytes: b"x"}
        missing = {
            column.name: blank[column.type.python_type]
            for column in known.columns
            if not column.nullable and column.name not in values
        }
        connection.execute(known.insert().values(**missing | values))
    engine.dispose()


def _one_old_output(url: str) -> None:
    """An output of the first schema, marked with message 41,523, and a detection that found it."""
    _write(url, "tenant", id="t")
    for name, more in (("api_key", {"scopes": []}), ("subject", {})):
        _write(url, name, id=name, tenant_id="t", **more)
    lists = {key: ["x"] for key in ("operations", "purposes", "languages", "territory")}
    _write(url, "consent", id="c", tenant_id="t", subject_id="subject", commercial=False, **lists)
    _write(url, "voice", id="v", tenant_id="t", consent_id="c")
    leaf = json.dumps({"facts": {"mark_message": 41_523}}).encode()
    _write(url, "audit_leaf", index=0, data=leaf)
    job = {"tenant_id": "t", "api_key_id": "api_key", "status": "succeeded"}
    _write(url, "job", id="j", kind="speech", outcome_leaf=0, **job)
    _write(url, "job", id="d", kind="detection", result=OLD_FINDING, **job)
    _write(url, "job", id="e", kind="detection", **job | {"status": "failed"})
    of = {"tenant_id": "t", "voice_id": "v", "consent_id": "c", "subject_id": "subject"}
    _write(url, "output", id="o", job_id="j", message=41_523, **of)


def test_outputs_with_marks_of_the_first_kind_stay_and_name_nobody(empty_database_url: str) -> None:
    """Their rows go up without an identity and find their message again on the way down, in the log."""
    url = empty_database_url
    upgrade(url, "0001")
    shape = _shape(url, "output")
    _one_old_output(url)
    upgrade(url)
    require_head(url)
    assert _rows(url, "SELECT id, mark_identity FROM output") == [("o", None)]
    database = Database(url)
    with database.read() as session:
        assert list(identities(session)) == []
        found = session.get_one(Job, "d").result
        assert session.get_one(Job, "e").result is None
    database.close()
    assert found is not None
    assert (found["verdict"], found["score"], found["resolution"]) == ("ours", 0.9, None)
    assert "message" not in found
    _rows(url, f"UPDATE output SET mark_identity = {0xA233 << 32 | 99}")
    downgrade(url, "0001")
    assert _rows(url, "SELECT message FROM output") == [(0xA233,)]
    _rows(url, "DELETE FROM output")
    upgrade(url)
    downgrade(url, "0001")
    assert _shape(url, "output") == shape


def test_the_message_of_an_old_output_is_found_in_the_log(empty_database_url: str) -> None:
    upgrade(empty_database_url, "0001")
    _one_old_output(empty_database_url)
    upgrade(empty_database_url)
    downgrade(empty_database_url, "0001")
    assert _rows(empty_database_url, "SELECT message FROM output") == [(41_523,)]
    ((found,),) = _rows(empty_database_url, "SELECT result FROM job WHERE id = 'd'")
    found = json.loads(found) if isinstance(found, str) else found
    assert {name: found[name] for name in ("found", "score", "seconds", "segments")} == {
        name: OLD_FINDING[name] for name in ("found", "score", "seconds", "segments")
    }

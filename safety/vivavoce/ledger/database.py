"""One database behind one pair of doors: `read` for a snapshot that cannot write, `write` for one transaction.

The same code runs on SQLite (one file, many threads and processes) and PostgreSQL (psycopg 3). The schema comes from
`schema`, never from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session

LOCK_TIMEOUT_SECONDS = 30
"""How long a writer waits for another before it gives up with an error."""

_WRITE = "vivavoce_write"


def make_engine(url: str) -> Engine:
    """Make an engine for `sqlite:///file` or `postgresql+psycopg://...`; its connections open write transactions.

    Raises:
        ValueError: Another kind of database, or SQLite in memory, which threads and processes could not share.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        options = f"{parsed.query.get('options', '')} -c lock_timeout={LOCK_TIMEOUT_SECONDS}s".strip()
        return create_engine(
            parsed, connect_args={"options": options}, pool_pre_ping=True, pool_size=10, max_overflow=30
        )
    raise ValueError(f"not a database that the ledger runs on: {parsed.get_backend_name()}")


class Database:
    """The ledger's database. Safe to share between threads; each process makes its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        engine = make_engine(url)
        self._writer = engine.execution_options(**{_WRITE: True})
        if engine.dialect.name == "postgresql":
            # One snapshot for the whole block, as SQLite gives by itself.
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        else:
            self._reader = engine.execution_options(**{_WRITE: False})

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session on one snapshot. It takes no write lock, and the database refuses writes through it."""
        with Session(self._reader, autoflush=False, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session on one transaction: committed when the block ends, rolled back when it raises.

        On SQLite the write lock is taken at the first statement, so what is read in the block stays true until the
        commit. On PostgreSQL (READ COMMITTED) the caller locks the rows that it decides upon (`with_for_update`).
        """
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all pooled connections."""
        self._writer.dispose()


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ValueError("SQLite in memory cannot be shared by the processes of an installation; name a file")
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        url,
        connect_args={"timeout": LOCK_TIMEOUT_SECONDS, "check_same_thread": False},
        pool_size=10,
        max_overflow=30,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: SQLiteConnection, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # The driver's own BEGIN would come late and be deferred; `_begin_sqlite` says it instead.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        # NORMAL could lose the last commits in a power cut: an outcome that was already served.
        "synchronous = FULL",
        "foreign_keys = ON",
        # A destroyed key must not linger in the file's free pages.
        "secure_delete = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, True)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
    # A deferred transaction that turns into a writer fails at once when another wrote meanwhile; IMMEDIATE waits.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

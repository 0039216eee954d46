"""Databases and brokers for tests: each test gets its own, and it is gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, make_url, text

from tests.api.live import Service, running_service
from tests.consent.world import World
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade

POSTGRESQL = os.environ.get("TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")
# The same examples every time, and no failures because a machine was busy.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

KINDS = ["sqlite", "postgresql"]


def _absent(service: str, error: Exception) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{service} does not answer: {error}")
    pytest.skip(f"{service} does not answer: {error}")


def _administer(statement: str) -> None:
    engine = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def _postgresql(template: str = "template0") -> Iterator[str]:
    name = f"vivavoce_{os.getpid()}_{secrets.token_hex(4)}"
    try:
        _administer(f"CREATE DATABASE {name} TEMPLATE {template}")
    except Exception as error:  # whatever the driver says, the server is not usable
        _absent("PostgreSQL", error)
    try:
        yield make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "template.sqlite3"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgresql_template() -> Iterator[str]:
    for url in _postgresql():
        upgrade(url)
        yield str(make_url(url).database)


@pytest.fixture(params=KINDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without any table, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    else:
        yield from _postgresql()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh database at the newest schema, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite3"
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        yield from _postgresql(request.getfixturevalue("_postgresql_template"))


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a fresh SQLite database at the newest schema, for tests that ask nothing of the database."""
    path = tmp_path / "ledger.sqlite3"
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh database at the newest schema, on SQLite and on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """A key ring of this test run."""
    return KeyRing.open(tmp_path_factory.mktemp("keys") / "ring", create=True)


@pytest.fixture
def redis_url() -> Iterator[str]:
    """URL of a Redis database that nobody else uses meanwhile."""
    import redis

    token = secrets.token_hex(8)
    try:
        for number in range(1, 16):
            client = redis.Redis.from_url(f"{REDIS}/{number}", socket_connect_timeout=3)
            # The claim expires, so that a killed run does not use up the server's few databases.
            if client.set("vivavoce:test", token, nx=True, ex=900):
                break
        else:
            pytest.fail("all Redis databases are claimed by other test runs")
    except redis.RedisError as error:
        _absent("Redis", error)
    yield f"{REDIS}/{number}"
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with its worker, for all tests that only ask it for something."""
    # What strangers may ask in a minute must last for all tests.
    settings = {"VIVAVOCE_PUBLIC_DETECTIONS_PER_MINUTE": "1000"}
    with running_service(tmp_path_factory.mktemp("service"), settings) as running:
        yield running


@pytest.fixture
def world(database: Database, keyring: KeyRing) -> World:
    """A fresh world on SQLite and on PostgreSQL."""
    return World(database, keyring)


@pytest.fixture
def small_world(sqlite_url: str, keyring: KeyRing) -> World:
    """A fresh world for tests that ask nothing of the database."""
    return World(Database(sqlite_url), keyring)

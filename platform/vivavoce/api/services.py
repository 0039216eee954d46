"""What the routes work with: opened once when the application starts, shared by all requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Self

from celery import Celery
from fastapi import Depends, Request

from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.schema import require_head
from vivavoce.settings import ApiSettings
from vivavoce.workers.tasknames import producer


@dataclass(frozen=True)
class Services:
    """The ledger, the log, the store and the doorbell of this installation."""

    settings: ApiSettings
    database: Database
    store: ObjectStore
    keyring: KeyRing
    log: Log
    bell: Celery

    @classmethod
    def open(cls, settings: ApiSettings) -> Self:
        """Open everything, or raise the error that says what is missing: no key, no schema, no store."""
        keyring = KeyRing.open(settings.keys_folder)
        require_head(settings.database_url)
        return cls(
            settings=settings,
            database=Database(settings.database_url),
            store=ObjectStore(settings.objects_url),
            keyring=keyring,
            log=Log(keyring, settings.log_origin),
            bell=producer(settings),
        )

    def close(self) -> None:
        """Let go of the database and the broker."""
        self.bell.close()
        self.database.close()


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - set before the first request
    return services


Here = Annotated[Services, Depends(_services)]
"""Parameter of a route that works with the services."""

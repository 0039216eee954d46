"""`/healthz`: the process lives. `/readyz`: what it needs answers, asked now and not remembered."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from celery.exceptions import CeleryError
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.api.services import Here, Services, now
from vivavoce.audit.errors import AuditError
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.workers import present
from vivavoce.workers.tasknames import SEND_SECONDS

router = APIRouter(tags=["health"])

_PROBE = "probes/readyz"
_log = structlog.get_logger("vivavoce.api")


@router.get("/healthz")
def alive() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(here: Here) -> JSONResponse:
    """Ask database, log, store and broker; 503 if one of them does not answer.

    `workers` says whether somebody is there to work on jobs; they are taken all the same, and wait.
    """
    checks: dict[str, Callable[[Services], None]] = {
        "database": _check_database,
        "log": _check_log,
        "store": _check_store,
        "broker": _check_broker,
    }
    states = {name: _state(name, check, here) for name, check in checks.items()}
    good = all(state == "ok" for state in states.values())
    body = {"status": "ok" if good else "unavailable", **states, "workers": _workers(here)}
    return JSONResponse(body, 200 if good else 503)


def _state(name: str, check: Callable[[Services], None], here: Services) -> str:
    try:
        check(here)
    except (SQLAlchemyError, AuditError, LedgerError, KombuError, BrokerError, CeleryError, OSError) as error:
        _log.error("not_ready", part=name, error=type(error).__name__)
        return "unavailable"
    return "ok"


def _workers(here: Services) -> str:
    try:
        with here.database.read() as session:
            return "ok" if any(not one.silent for one in present(session, now())) else "none"
    except SQLAlchemyError:
        return "unavailable"


def _check_database(here: Services) -> None:
    with here.database.read() as session:
        session.execute(select(1))


def _check_log(here: Services) -> None:
    # A checkpoint is a write transaction on the database, and finds out whether the tree still is what was signed.
    with here.database.write() as session:
        here.log.checkpoint(session)


def _check_store(here: Services) -> None:
    here.store.put(_PROBE, b"ready")
    here.store.get(_PROBE)


def _check_broker(here: Services) -> None:
    with here.bell.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=SEND_SECONDS)

"""What an installation needs before its first request: schema, keys, a tenant, and somebody who may call."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select

from vivavoce.api.keys import create_key
from vivavoce.api.scopes import Scope
from vivavoce.api.tenants import create_tenant
from vivavoce.audit.installation import OPERATOR
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import ApiKey, AuditLeaf


def prepare(settings: CoreSettings) -> str | None:
    """Bring the schema up to date; on the very first start make the keys, a tenant and an API key.

    Returns:
        The first API key, to be shown once; None on every later start.

    Raises:
        KeyRingError: The key files are gone or broken while the database holds what was sealed under them. New ones
            would lock that away for ever, so none are made.
    """
    upgrade(settings.database_url)
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            used = session.scalar(select(func.count()).select_from(AuditLeaf)) or 0
        keyring = KeyRing.open(settings.keys_folder, create=not used)
        return _first_key(database, Log(keyring, settings.log_origin), keyring)
    finally:
        database.close()


def _first_key(database: Database, log: Log, keyring: KeyRing) -> str | None:
    now = datetime.now(UTC)
    with database.write() as session:
        if session.scalar(select(func.count()).select_from(ApiKey)):
            return None
        tenant = create_tenant(session, log, "default", now, OPERATOR)
        _, token = create_key(
            session, log, keyring, tenant_id=tenant.id, name="first key", scopes=Scope, now=now, actor=OPERATOR
        )
        return token

"""`vivavoce keys`: make, list and revoke API keys of this installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from vivavoce.api.keys import UnknownKey, UnknownTenant, create_key, create_tenant, revoke_key
from vivavoce.api.scopes import Scope
from vivavoce.audit.errors import AuditError
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import require_head
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import ApiKey, Tenant

OPERATOR = "operator"
"""How the log names whoever works at the machine itself."""

app = typer.Typer(no_args_is_help=True, help="API keys: make, list, revoke.")

_out = Console(soft_wrap=True, highlight=False)
_WIDE = 250
"""Columns where nobody looks on: in a pipe or file no id may be cut."""
_err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scopes: Annotated[list[Scope], typer.Option("--scope", help="A right of the key; may be given several times.")],
    tenant: Annotated[str | None, typer.Option(help="Id of the tenant; not needed while there is only one.")] = None,
    new_tenant: Annotated[str | None, typer.Option(help="Name of a new tenant to make the key for.")] = None,
) -> None:
    """Make a key and print it, once."""
    with _ledger() as (database, log, keyring), database.write() as session:
        now = datetime.now(UTC)
        if new_tenant is not None:
            tenant_id = create_tenant(session, log, new_tenant, now, OPERATOR).id
        else:
            tenant_id = tenant or _only([row.id for row in session.scalars(select(Tenant))])
        row, token = create_key(
            session, log, keyring, tenant_id=tenant_id, name=name, scopes=scopes, now=now, actor=OPERATOR
        )
    _err.print(f"{row.id} of {tenant_id}. The key is shown this once:")
    _out.print(token, markup=False)


@app.command("list")
def list_() -> None:
    """List all keys; the keys themselves are not known any more."""
    with _ledger() as (database, _, _), database.read() as session:
        rows = session.scalars(select(ApiKey).order_by(ApiKey.id)).all()
    table = Table()
    for heading in ("id", "tenant", "name", "begins with", "scopes", "made", "revoked"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        revoked = row.revoked_at.isoformat(timespec="seconds") if row.revoked_at else ""
        made = row.created_at.isoformat(timespec="seconds")
        cells = (row.id, row.tenant_id, row.name, row.prefix, " ".join(row.scopes), made, revoked)
        table.add_row(*(escape(cell) for cell in cells))
    Console(width=None if _out.is_terminal else _WIDE).print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Id of the key, key_...")]) -> None:
    """Make a key worthless, at once and for ever."""
    with _ledger() as (database, log, _), database.write() as session:
        revoke_key(session, log, key_id, datetime.now(UTC), OPERATOR)
    _out.print(f"{key_id} is revoked.", markup=False)


def _only(tenants: list[str]) -> str:
    if len(tenants) != 1:
        raise typer.BadParameter(f"there are {len(tenants)} tenants; name one", param_hint="--tenant")
    return tenants[0]


@contextmanager
def _ledger() -> Iterator[tuple[Database, Log, KeyRing]]:
    settings = CoreSettings()
    try:
        # The keys first: where there are none, there is no installation, and no empty database should appear.
        keyring = KeyRing.open(settings.keys_folder)
        require_head(settings.database_url)
        database = Database(settings.database_url)
        yield database, Log(keyring, settings.log_origin), keyring
        database.close()
    except UnknownTenant as error:
        raise typer.BadParameter("there is no such tenant", param_hint="--tenant") from error
    except UnknownKey as error:
        raise typer.BadParameter("there is no such key", param_hint="KEY_ID") from error
    except (AuditError, LedgerError) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error

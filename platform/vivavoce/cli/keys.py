"""`vivavoce keys`: make, list and revoke API keys of this installation, and rotate its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from vivavoce.api.keys import create_key, revoke_key
from vivavoce.api.scopes import Scope
from vivavoce.api.tenants import create_tenant
from vivavoce.audit.installation import OPERATOR
from vivavoce.cli import rotation
from vivavoce.cli.ledger import ledger
from vivavoce.ledger.tables import ApiKey, Tenant

app = typer.Typer(no_args_is_help=True, help="API keys: make, list, revoke. The installation's keys: rotate.")
for command in (rotation.status, rotation.rotate, rotation.rewrap, rotation.retire):
    app.command()(command)

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
    with ledger() as (database, log, keyring), database.write() as session:
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
    with ledger() as (database, _, _), database.read() as session:
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
    with ledger() as (database, log, _), database.write() as session:
        revoke_key(session, log, key_id, datetime.now(UTC), OPERATOR)
    _out.print(f"{key_id} is revoked.", markup=False)


def _only(tenants: list[str]) -> str:
    if len(tenants) != 1:
        raise typer.BadParameter(f"there are {len(tenants)} tenants; name one", param_hint="--tenant")
    return tenants[0]

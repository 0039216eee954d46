"""`vivavoce tenants`: list tenants, and choose what law they work under."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from vivavoce.api.tenants import set_rules
from vivavoce.audit.installation import OPERATOR
from vivavoce.cli.ledger import ledger
from vivavoce.consent.profiles import Name
from vivavoce.ledger.tables import Assurance, Tenant

app = typer.Typer(no_args_is_help=True, help="Tenants: list them, set their compliance profile.")

_out = Console(soft_wrap=True, highlight=False)


@app.command("list")
def list_() -> None:
    """List all tenants."""
    with ledger() as (database, _, _), database.read() as session:
        rows = session.scalars(select(Tenant).order_by(Tenant.id)).all()
    table = Table("id", "name", "profile", "least assurance")
    for row in rows:
        table.add_row(row.id, escape(row.name), row.profile, row.least_assurance or "the profile's")
    _out.print(table)


@app.command("set")
def set_(
    tenant: Annotated[str, typer.Argument(help="Id of the tenant, ten_...")],
    profile: Annotated[str | None, typer.Option(help=f"Compliance profile: {', '.join(get_args(Name))}.")] = None,
    least_assurance: Annotated[
        Assurance | None, typer.Option(help="How well a consent must be established, beyond the profile.")
    ] = None,
) -> None:
    """Set what is asked of a tenant's consents and requests, from now on. What is queued is asked anew as well."""
    if profile is None and least_assurance is None:
        raise typer.BadParameter("say what to set: --profile or --least-assurance")
    if profile is not None and profile not in get_args(Name):
        raise typer.BadParameter(f"profiles are {', '.join(get_args(Name))}", param_hint="--profile")
    with ledger() as (database, log, _), database.write() as session:
        row = set_rules(session, log, tenant, cast("Name | None", profile), least_assurance, OPERATOR)
        asked = row.profile, row.least_assurance or "assurance as the profile asks"
    _out.print(f"{tenant}: {', '.join(asked)}", markup=False)

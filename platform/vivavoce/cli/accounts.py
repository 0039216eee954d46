"""`vivavoce accounts`: who may work at the console."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from vivavoce.audit.installation import OPERATOR
from vivavoce.cli.ledger import ledger
from vivavoce.console.accounts import (
    AccountInvalid,
    UnknownAccount,
    create_account,
    disable_account,
    set_password,
)
from vivavoce.ledger.accounts import Account, Role

app = typer.Typer(no_args_is_help=True, help="Accounts of the console: add, list, disable, change the password.")

_out = Console(soft_wrap=True, highlight=False)
Name = Annotated[str, typer.Argument(help="Name of the account; it stands in the log.")]


@app.command()
def add(
    name: Name, role: Annotated[Role, typer.Option(help="What it may do; an auditor reads only.")] = Role.AUDITOR
) -> None:
    """Add an account. Its password is asked for, or read from standard input."""
    password = _password()
    with _told(), ledger() as (database, log, _), database.write() as session:
        create_account(session, log, name, role, password, datetime.now(UTC), OPERATOR)
    _out.print(f"{name} may log in as {role}.", markup=False)


@app.command("list")
def list_() -> None:
    """List all accounts."""
    with ledger() as (database, _, _), database.read() as session:
        rows = session.scalars(select(Account).order_by(Account.name)).all()
    table = Table("name", "role", "logs in by", "made", "disabled")
    for row in rows:
        disabled = row.disabled_at.isoformat(timespec="seconds") if row.disabled_at else ""
        way = row.external or "password"
        table.add_row(row.name, row.role, escape(way), row.created_at.isoformat(timespec="seconds"), disabled)
    _out.print(table)


@app.command()
def disable(name: Name) -> None:
    """Let an account in no more, at once."""
    with _told(), ledger() as (database, log, _), database.write() as session:
        disable_account(session, log, name, datetime.now(UTC), OPERATOR)
    _out.print(f"{name} is disabled.", markup=False)


@app.command()
def passwd(name: Name) -> None:
    """Give an account another password. It is asked for, or read from standard input."""
    password = _password()
    with _told(), ledger() as (database, log, _), database.write() as session:
        set_password(session, log, name, password, OPERATOR)
    _out.print(f"{name} has another password, and is logged out.", markup=False)


def _password() -> str:
    # Never an option: the arguments of a command are seen by every user of the machine.
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except AccountInvalid as error:
        raise typer.BadParameter(str(error)) from error
    except UnknownAccount as error:
        raise typer.BadParameter("there is no such account", param_hint="NAME") from error

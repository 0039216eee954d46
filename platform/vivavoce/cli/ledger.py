"""The installation's ledger, for commands that work at the machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from vivavoce.api.keys import UnknownKey
from vivavoce.api.tenants import UnknownTenant
from vivavoce.audit.errors import AuditError
from vivavoce.audit.installation import installation
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing

_err = Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def ledger() -> Iterator[tuple[Database, Log, KeyRing]]:
    """Open database, log and keys; what goes wrong ends the command with a sentence."""
    try:
        with installation() as opened:
            yield opened
    except UnknownTenant as error:
        raise typer.BadParameter("there is no such tenant", param_hint="TENANT") from error
    except UnknownKey as error:
        raise typer.BadParameter("there is no such key", param_hint="KEY_ID") from error
    except (AuditError, LedgerError) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error

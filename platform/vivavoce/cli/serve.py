"""`vivavoce serve`: the API and a local worker, on one machine, with nothing else to set up."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.audit.errors import AuditError
from vivavoce.cli.first_run import prepare
from vivavoce.cli.main import BAD_SETTINGS
from vivavoce.cli.supervisor import Supervisor
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.tracing import export_traces
from vivavoce.settings import ApiSettings

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    worker: Annotated[bool, typer.Option(help="Run a worker on this machine too.")] = True,
) -> None:
    """Run the API and a local worker until stopped. The first start prints the first API key."""
    settings = ApiSettings()
    # Here, not above: an overview of the commands needs no web server, and wrong settings are told at once.
    import uvicorn

    from vivavoce.api.app import create_app

    try:
        export_traces("vivavoce-api")
        first_key = prepare(settings)
        application = create_app(settings)
    except (LedgerError, AuditError, SQLAlchemyError, ValueError, OSError) as error:
        _err.print(f"[bold red]Cannot start:[/] {escape(str(error))}")
        raise typer.Exit(BAD_SETTINGS) from error
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if first_key is not None:
        _out.print(f"First API key, shown this once: {first_key}", markup=False)
    # uvicorn answers what is under way after a signal, and then raises the signal again: it must not end us before the
    # worker is stopped. SIGINT is Python's own KeyboardInterrupt already.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisor = Supervisor()
    if worker:
        supervisor.start()
    try:
        uvicorn.run(application, host=host, port=port, access_log=False, timeout_graceful_shutdown=30)
    finally:
        if worker:
            supervisor.stop()

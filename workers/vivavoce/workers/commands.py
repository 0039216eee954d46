"""`vivavoce worker`: run jobs on this machine."""

from __future__ import annotations

from typing import Annotated

import structlog
import typer

from vivavoce.ledger.tracing import export_traces
from vivavoce.workers.errors import StartError
from vivavoce.workers.logs import configure_logging
from vivavoce.workers.settings import WorkerSettings

app = typer.Typer(no_args_is_help=False)


@app.command()
def worker(
    concurrency: Annotated[int | None, typer.Option(min=1, help="Jobs worked on at once.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run jobs until stopped. Settings come from VIVAVOCE_* variables."""
    try:
        configure_logging(log_level)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--log-level") from error
    try:
        export_traces("vivavoce-worker")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    settings = WorkerSettings() if concurrency is None else WorkerSettings(concurrency=concurrency)
    # Here, not above: the command line must list its commands without loading torch.
    from vivavoce.workers.app import work
    from vivavoce.workers.host import Host
    from vivavoce.workers.jobs import JobRunner

    try:
        host = Host.open(settings)
    except StartError as error:
        structlog.get_logger("vivavoce.workers").error("worker_cannot_start", reason=str(error))
        raise typer.Exit(1) from error
    raise typer.Exit(work(JobRunner(host)))

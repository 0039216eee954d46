"""`vivavoce audit`: export the log, and check an export on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vivavoce.audit.bundle import Progress as Report
from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import AuditError, BundleBroken, LogBroken
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import require_head
from vivavoce.ledger.settings import CoreSettings

app = typer.Typer(no_args_is_help=True, help="The audit log: export it, and check an export on any machine.")

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="File to write (JSON lines).")],
) -> None:
    """Sign the log's head and write the whole log to one file. The export is itself an entry of the log."""
    with _reported():
        database, log = _open()
        size, broken = _sign(database, log)
        with database.read() as session, _bar("Exporting") as report:
            write_bundle(session, log, size, output, report)
        database.close()
    _out.print(f"{size:,} leaves written to {output}", markup=False)
    if broken:
        _err.print(f"[bold white on red] BROKEN LOG [/] not signed, written as it stands: {escape(str(broken))}")
        raise typer.Exit(1)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File made by `audit export`.")],
    public_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the log's key, got from the operator otherwise."),
    ] = None,
) -> None:
    """Check an exported log with no database; names the first wrong place and exits with 1 when there is one."""
    try:
        with _bar("Verifying") as report:
            key = public_key.read_text(errors="replace") if public_key else None
            found = verify_bundle(bundle, key, report)
    except BundleBroken as error:
        _err.print(f"[bold white on red] NOT VERIFIED [/] [bold]{escape(error.place)}[/]: {escape(error.reason)}")
        _err.print("This log was altered, damaged or cut. Do not rely on anything in it.")
        raise typer.Exit(1) from error
    _out.print(f"[bold green]Verified[/] {found.size:,} leaves under {found.checkpoints:,} signed heads")
    _out.print(f"root {found.root.hex()}, last entry {found.last_time or 'none'}\nkey  {found.key}", markup=False)
    if public_key is None:
        _out.print("The key is the bundle's own: compare it with the operator's, or name that with --public-key.")


@app.command()
def key() -> None:
    """Print the log's public key, to be given to whoever wants to verify."""
    with _reported():
        settings = CoreSettings()
        _out.print(str(Log(KeyRing.open(settings.keys_folder), settings.log_origin).verifier), markup=False)


def _open() -> tuple[Database, Log]:
    settings = CoreSettings()
    # The keys first: where there are none, there is no installation, and no empty database should appear.
    log = Log(KeyRing.open(settings.keys_folder), settings.log_origin)
    require_head(settings.database_url)
    return Database(settings.database_url), log


def _sign(database: Database, log: Log) -> tuple[int, LogBroken | None]:
    """Log the export and sign the head; a log that may not be signed any more is still worth examining."""
    try:
        with database.write() as session:
            log.append(session, Entry(Tag.LOG_EXPORT, None, "operator"))
            return Checkpoint.open(log.checkpoint(session), log.verifier).size, None
    except LogBroken as error:
        with database.read() as session:
            return log.size(session), error


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (AuditError, LedgerError) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error


@contextmanager
def _bar(title: str) -> Iterator[Report]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("leaves"), TimeRemainingColumn())
    with Progress(*columns, console=_err, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report

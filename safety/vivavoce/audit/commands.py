"""`vivavoce audit`: export the log, publish it, prove what it says, and check all of it on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vivavoce.audit.bundle import Progress as Report
from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.cosignatures import CosignerKey
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import AuditError, BundleBroken, LogBroken, NoteInvalid
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.audit.proofs import verify_proof
from vivavoce.audit.publishing import find_leaf, open_heads, prove_leaf, sign_and_keep, submit_head
from vivavoce.audit.tags import Tag
from vivavoce.audit.tiles import verify_tiles, write_tiles
from vivavoce.audit.watch import examine
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import require_head
from vivavoce.ledger.settings import CoreSettings

app = typer.Typer(no_args_is_help=True, help="The audit log: export, publish, prove, watch, and verify on any machine.")

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
_EXPORT = Entry(Tag.LOG_EXPORT, None, "operator")


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
    bundle: Annotated[
        Path, typer.Argument(exists=True, help="File made by `audit export`, or folder made by `audit publish`.")
    ],
    public_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the log's key, got from the operator otherwise."),
    ] = None,
) -> None:
    """Check an exported log with no database; names the first wrong place and exits with 1 when there is one."""
    try:
        with _bar("Verifying") as report:
            key = public_key.read_text(errors="replace") if public_key else None
            found = (verify_tiles if bundle.is_dir() else verify_bundle)(bundle, key, report)
    except BundleBroken as error:
        _err.print(f"[bold white on red] NOT VERIFIED [/] [bold]{escape(error.place)}[/]: {escape(error.reason)}")
        _err.print("This log was altered, damaged or cut. Do not rely on anything in it.")
        raise typer.Exit(1) from error
    _out.print(f"[bold green]Verified[/] {found.size:,} leaves under {found.checkpoints:,} signed heads")
    _out.print(f"root {found.root.hex()}, last entry {found.last_time or 'none'}\nkey  {found.key}", markup=False)
    if public_key is None:
        _out.print("The key is the export's own: compare it with the operator's, or name that with --public-key.")


@app.command()
def key() -> None:
    """Print the log's public key, to be given to whoever wants to verify."""
    with _reported():
        settings = CoreSettings()
        _out.print(str(Log(KeyRing.open(settings.keys_folder), settings.log_origin).verifier), markup=False)


@app.command()
def publish(
    folder: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder of tiles, brought up to date.")
    ],
) -> None:
    """Sign the log's head, keep it as a write-once object, and bring a folder of static files (tlog-tiles) up to it.

    Like an export, it is itself an entry of the log.
    """
    with _reported():
        database, log = _open()
        note = sign_and_keep(database, log, open_heads(log), _EXPORT)
        with database.read() as session, _bar("Publishing") as report:
            write_tiles(session, log, note, folder, report)
        database.close()
    _out.print(f"{Checkpoint.open(note, *log.verifiers).size:,} leaves published in {folder}", markup=False)


@app.command()
def prove(
    output: Annotated[str, typer.Argument(help="An output's id, or the number of a leaf.")],
    file: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="File to write (.tlog-proof).")],
) -> None:
    """Write the proof that the log has an output's outcome: one text file, checked offline by `audit check`."""
    with _reported():
        database, log = _open()
        heads = open_heads(log)
        note = sign_and_keep(database, log, heads)
        with database.read() as session:
            file.write_text(prove_leaf(session, log, find_leaf(session, output), heads.cosigned(note)))
        database.close()
    _out.print(f"proof written to {file}", markup=False)


@app.command()
def check(
    proof: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File made by `audit prove`.")],
    public_key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File with the log's key.")],
    cosigner: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="File with keys of a witness that all must have cosigned."),
    ] = None,
) -> None:
    """Check the proof of one entry with no database; prints the entry, or exits with 1."""
    with _reported():
        keys = [key for path in cosigner or [] for key in _cosigner_keys(path)]
        log_key = Verifier.parse(public_key.read_text(errors="replace"))
        found = verify_proof(proof.read_text(errors="replace"), log_key, keys)
    _out.print(f"[bold green]Proven[/] leaf {found.index} of {found.head.size:,}, cosigned by {len(keys)} keys")
    _out.print(json.dumps(found.entry, indent=1, ensure_ascii=False), markup=False, highlight=False)


@app.command()
def submit(
    url: Annotated[str, typer.Argument(help="The witness's submission prefix, http(s)://...")],
    keys: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File with the witness's keys.")],
) -> None:
    """Have a witness cosign the log's head (tlog-witness), and keep its cosignatures as write-once objects."""
    with _reported():
        known = _cosigner_keys(keys)
        database, log = _open()
        heads = open_heads(log)
        note = sign_and_keep(database, log, heads)
        with database.read() as session:
            lines = submit_head(session, log, note, url)
        signed = heads.add_cosignatures(note, lines, known)
        database.close()
    if len(signed) < len(known):
        _err.print(f"[bold red]Failed:[/] only {len(signed)} of {len(known)} keys have cosigned")
        raise typer.Exit(1)
    _out.print(f"cosigned by {len(signed)} keys at size {Checkpoint.open(note, *log.verifiers).size:,}", markup=False)


@app.command()
def status(
    max_age: Annotated[int, typer.Option(min=1, help="Minutes that leaves may wait for a signed and kept head.")] = 60,
) -> None:
    """Look for gaps, contradictions and stale heads. Exits with 0: well, 1: broken, 3: stale."""
    with _reported():
        database, log = _open()
        with database.read() as session:
            found = examine(session, log, open_heads(log), datetime.now(UTC), timedelta(minutes=max_age))
        database.close()
    _out.print(f"{found.size:,} leaves, {found.signed:,} under a signed head of {found.head_time or 'never'}")
    for line in found.broken:
        _err.print(f"[bold white on red] BROKEN [/] {escape(line)}")
    for line in found.stale:
        _err.print(f"[bold yellow]STALE[/] {escape(line)}")
    if found.broken or found.stale:
        raise typer.Exit(1 if found.broken else 3)


def _open() -> tuple[Database, Log]:
    settings = CoreSettings()
    # The keys first: where there are none, there is no installation, and no empty database should appear.
    log = Log(KeyRing.open(settings.keys_folder), settings.log_origin)
    require_head(settings.database_url)
    return Database(settings.database_url), log


def _cosigner_keys(path: Path) -> list[CosignerKey]:
    lines = path.read_text(errors="replace").splitlines()
    # Nobody who names a witness means: none.
    if not lines:
        raise NoteInvalid(f"{path} has no keys")
    return [CosignerKey.parse(line) for line in lines]


def _sign(database: Database, log: Log) -> tuple[int, LogBroken | None]:
    """Log the export and sign the head; a log that may not be signed any more is still worth examining."""
    try:
        with database.write() as session:
            log.append(session, _EXPORT)
            return Checkpoint.open(log.checkpoint(session), *log.verifiers).size, None
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

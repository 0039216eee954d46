"""`vivavoce protect`: the register of voices that nobody may clone without an admin's word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vivavoce.audit.errors import AuditError
from vivavoce.audit.installation import OPERATOR, installation
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.likeness import protect, protected_notes, unprotect
from vivavoce.sound import SoundError, decode, require_speech
from vivavoce.verification.errors import VerifierMissing

app = typer.Typer(no_args_is_help=True, help="Protected voices: what sounds like one of them goes to a review.")

LEAST_SECONDS = 3.0
_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def add(
    recording: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Somebody speaking, 3 s at least.")],
    name: Annotated[str, typer.Option(help="Whose voice it is; sealed.")],
    reason: Annotated[str, typer.Option(help="Why it is protected; sealed.")],
) -> None:
    """Protect a voice. The recording is not kept, only what tells the speaker apart."""
    from vivavoce.verification.speakers import MODEL, SpeakerVerifier

    with _ledger() as (database, log, keyring):
        sound = decode(recording.read_bytes())
        require_speech(sound, LEAST_SECONDS)
        vector = SpeakerVerifier.open().vector(sound.samples, sound.sample_rate)
        with database.write() as session:
            row = protect(session, log, keyring, vector, MODEL, name, reason, OPERATOR, datetime.now(UTC))
            made = row.id
    _out.print(made, markup=False)


@app.command("list")
def list_() -> None:
    """List protected voices. The reading is logged."""
    with _ledger() as (database, log, keyring), database.write() as session:
        notes = protected_notes(session, log, keyring, OPERATOR)
        table = Table("id", "name", "reason", "since")
        for row, name, reason in notes:
            table.add_row(row.id, escape(name), escape(reason), row.created_at.isoformat(timespec="seconds"))
    _out.print(table)


@app.command()
def remove(protected: Annotated[str, typer.Argument(help="Id: prot_...")]) -> None:
    """Take a voice off the register."""
    with _ledger() as (database, log, _), database.write() as session:
        unprotect(session, log, protected, OPERATOR, datetime.now(UTC))
    _out.print(f"{protected} is not protected any more", markup=False)


@contextmanager
def _ledger() -> Iterator[tuple[Database, Log, KeyRing]]:
    try:
        with installation() as opened:
            yield opened
    except (AuditError, LedgerError, PolicyRefused, SoundError, VerifierMissing) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error

"""`vivavoce consent`: give a receipt out, and check one on any machine with the installation's public keys alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vivavoce.audit.documents import Keys
from vivavoce.audit.errors import AuditError, DocumentBroken, NoteInvalid
from vivavoce.audit.installation import OPERATOR, installation
from vivavoce.consent.errors import ConsentError
from vivavoce.consent.receipt_check import Checked, check_receipt
from vivavoce.consent.receipt_issue import issue_receipt
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.settings import CoreSettings

app = typer.Typer(no_args_is_help=True, help="Consents: give out a receipt, and check one on any machine.")

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


@app.command()
def receipt(
    consent: Annotated[str, typer.Argument(help="Id of the consent: cons_...")],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="File to write (JSON).")],
) -> None:
    """Write the signed receipt of a consent, as it stands now. Giving it out is itself an entry of the log."""
    with _reported():
        with installation() as (database, log, keyring), database.write() as session:
            text = issue_receipt(session, log, keyring, consent, OPERATOR, datetime.now(UTC))
        output.write_text(text, encoding="utf-8")
    _out.print(f"receipt of {consent} written to {output}", markup=False)


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File made by `consent receipt`.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="File with what `consent key` prints.")],
) -> None:
    """Check a receipt with no database and no network; exits with 1 when anything in it is wrong."""
    try:
        keys = Keys.parse(key.read_text(errors="replace"))
        checked = check_receipt(receipt.read_bytes(), keys)
    except DocumentBroken as error:
        _err.print(f"[bold white on red] NOT VERIFIED [/] [bold]{escape(error.place)}[/]: {escape(error.reason)}")
        _err.print("This receipt was altered, damaged, or made by somebody else. Do not rely on anything in it.")
        raise typer.Exit(1) from error
    except NoteInvalid as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error
    _out.print("[bold green]Verified[/] " + escape(_proved(checked)))
    _out.print(_unproved(checked), markup=False)


@app.command()
def key() -> None:
    """Print the two public keys (the log's, the receipts'), to be given to whoever wants to verify."""
    with _reported():
        settings = CoreSettings()
        _out.print(str(Keys.of(KeyRing.open(settings.keys_folder), settings.log_origin)), markup=False, end="")


def _proved(checked: Checked) -> str:
    said, known = checked.receipt, checked.receipt.pii_processing
    controller = next(party for party in said.parties if party.party_role == "PII controller")
    lines = [
        f"{said.record_id}: {said.status} on {said.issued_at:%Y-%m-%d %H:%M:%S} UTC",
        f"  signature    this installation signed every word of receipt {said.receipt_id}",
        f"  agreed to    {', '.join(known.services)} for {', '.join(known.purposes)}, by {controller.party_name}",
        f"  time         {known.valid_from:%Y-%m-%d} to {known.expires_at:%Y-%m-%d}; assurance: {known.assurance}",
        f"  log          {len(said.events)} entries proven under the signed head of {checked.log_size:,} entries",
    ]
    lines += [f"               {event.event_time:%Y-%m-%d %H:%M:%S} {event.event_type}" for event in said.events]
    return "\n".join(lines)


def _unproved(checked: Checked) -> str:
    when = f"{checked.receipt.issued_at:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"Not proved: that the consent has not been withdrawn, suspended or erased after {when} (ask for a new\n"
        "receipt); who spoke, beyond the assurance named; that the log shown to you is the one shown to others\n"
        "(compare its head); that the keys are the operator's (get them from the operator, not with the receipt)."
    )


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (AuditError, ConsentError, LedgerError) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error

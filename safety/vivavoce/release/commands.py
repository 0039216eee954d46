"""`vivavoce rights`: what a speaker may ask for, done at the machine itself for one who writes or calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vivavoce.audit.errors import AuditError
from vivavoce.audit.installation import OPERATOR, installation
from vivavoce.consent.errors import ConsentError, ConsentRefused
from vivavoce.consent.links import create_link
from vivavoce.consent.standing import lift, plain_reason, suspend
from vivavoce.ledger.errors import LedgerError, ObjectStoreUnavailable
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import Consent
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.withdrawal import erase, withdraw

app = typer.Typer(no_args_is_help=True, help="Speakers' rights: link, suspension, withdrawal, erasure.")

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

ConsentId = Annotated[str, typer.Argument(metavar="CONSENT", help="Id of the consent: cons_...")]
Reason = Annotated[str, typer.Option(help="Why; sealed in the log.")]


@app.command("link")
def link_(consent: ConsentId) -> None:
    """Make the speaker's own link, and print its path once: to read, to export, to withdraw, to be erased."""
    with _reported(), installation() as (database, log, keyring), database.write() as session:
        found = session.get(Consent, consent) if is_id(consent) else None
        if found is None:
            raise ConsentRefused("unknown_consent", "there is no such consent")
        row, token = create_link(session, log, keyring, found, OPERATOR, datetime.now(UTC))
    _err.print(f"{row.id}, valid until {row.expires_at:%Y-%m-%d}. Put the API's address before it; shown this once:")
    _out.print(f"/subject/{token}", markup=False)


@app.command("suspend")
def suspend_(consent: ConsentId, reason: Reason) -> None:
    """Put a consent out of force until it is lifted."""
    with _reported(), installation() as (database, log, _), database.write() as session:
        suspend(session, log, consent, reason, OPERATOR, "admin", datetime.now(UTC))
    _out.print(f"{consent} is suspended.", markup=False)


@app.command("lift")
def lift_(consent: ConsentId, reason: Reason) -> None:
    """Put a suspended consent back in force."""
    with _reported(), installation() as (database, log, _), database.write() as session:
        lift(session, log, consent, reason, OPERATOR, "admin")
    _out.print(f"{consent} is in force again.", markup=False)


@app.command("withdraw")
def withdraw_(consent: ConsentId, reason: Reason) -> None:
    """Withdraw a consent for good: its jobs end, and what nobody has fetched is withheld."""
    with _reported(), installation() as (database, log, _), database.write() as session:
        withdraw(session, log, consent, plain_reason(reason), OPERATOR, datetime.now(UTC))
    _out.print(f"{consent} is withdrawn.", markup=False)


@app.command("erase")
def erase_(
    consent: ConsentId, yes: Annotated[bool, typer.Option("--yes", help="Do not ask. It cannot be undone.")] = False
) -> None:
    """Erase the speaker of a consent: their key, recordings, and all that was made with their voice."""
    if not yes:
        typer.confirm(f"Erase the speaker of {consent} for ever?", abort=True)
    with _reported(), installation() as (database, log, _):
        with database.write() as session:
            found = session.get(Consent, consent) if is_id(consent) else None
            gone = erase(session, log, "" if found is None else found.subject_id, OPERATOR, datetime.now(UTC))
        _out.print(
            f"erased: {gone.consents} consents, {gone.voices} voices, {gone.outputs} outputs, {gone.objects} objects; "
            f"{gone.jobs} jobs ended",
            markup=False,
        )
        try:
            delete_doomed(database, ObjectStore(CoreSettings().objects_url), log, OPERATOR)
        except ObjectStoreUnavailable:
            _err.print("The store does not answer: its objects cannot be read any more, and the workers delete them.")


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (AuditError, ConsentError, LedgerError) as error:
        _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from error

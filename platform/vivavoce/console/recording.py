"""`/speak/{token}`: an invited speaker reads the notice, records in a browser, and hears what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response
from pydantic import BaseModel

from vivavoce.api.gate import INVITED, LINKED
from vivavoce.api.routes.challenges import Answer, answered
from vivavoce.api.services import Here, now
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.invitations import asked_of, close, draw, open_invitation
from vivavoce.consent.links import create_link
from vivavoce.consent.statements import notice_for
from vivavoce.console.pages import page
from vivavoce.ledger.rights import Verification
from vivavoce.ledger.tables import Consent, ConsentStatus, Tenant
from vivavoce.policy import verification

router = APIRouter(prefix=INVITED + "{token}", tags=["invited speakers"])


class ToRead(BaseModel):
    """What to read aloud."""

    challenge: str
    language: str
    text: str
    words: list[str]


class Heard(BaseModel):
    """What came of the recording; `verdict` is null while a worker listens."""

    verdict: str | None
    reasons: list[str]


class Welcome(BaseModel):
    """Where an accepted speaker reads, withdraws, and is erased."""

    address: str


@router.get("", include_in_schema=False)
def read(token: str, here: Here) -> Response:
    """Show the notice, and what happens next."""
    with here.database.read() as session:
        row = open_invitation(session, here.keyring, token, now())
        asked = asked_of(here.keyring, row)
        company = session.get_one(Tenant, row.tenant_id).name
        shown = notice_for(asked.language, company, (now() + asked.scope.lifetime).date())
    return page("speak.html", name=asked.name, company=company, notice=shown, language=asked.language)


@router.post("/challenge")
def begin(token: str, here: Here) -> ToRead:
    """Draw a sentence with one-time words, good for ten minutes and one recording."""
    with here.database.write() as session:
        row = open_invitation(session, here.keyring, token, now(), lock=True)
        drawn, shown = draw(session, here.log, here.keyring, row, now())
        return ToRead(challenge=drawn.id, language=shown.language, text=shown.text, words=list(shown.words))


@router.post("/recording", status_code=202)
def hand_in(token: str, form: Annotated[Answer, Form(media_type="multipart/form-data")], here: Here) -> Heard:
    """Hand the recording in; `GET /speak/{token}/state` says what came of it."""
    with here.database.read() as session:
        row = open_invitation(session, here.keyring, token, now())
    answered(here, form, row.tenant_id, row.api_key_id, f"invited:{row.id}", row.id)
    return Heard(verdict=None, reasons=[])


@router.get("/state")
def state(token: str, here: Here) -> Heard:
    """Say what came of the last recording."""
    with here.database.read() as session:
        row = open_invitation(session, here.keyring, token, now())
        found = None if row.consent_id is None else session.get(Verification, row.consent_id)
    if found is None or found.verdict is None:
        return Heard(verdict=None, reasons=[])
    return Heard(verdict=found.verdict, reasons=[verification.REASONS[code] for code in found.reasons])


@router.post("/finish")
def finish(token: str, here: Here) -> Welcome:
    """Close the invitation of an accepted speaker, and give them their own link. It is shown this once."""
    with here.database.write() as session:
        row = open_invitation(session, here.keyring, token, now(), lock=True)
        consent = None if row.consent_id is None else session.get_one(Consent, row.consent_id)
        if consent is None or consent.status != ConsentStatus.VERIFIED:
            raise ConsentRefused("consent_pending", "no recording has been accepted yet")
        _, own = create_link(session, here.log, here.keyring, consent, f"invited:{row.id}", now())
        close(row, now())
    return Welcome(address=f"{LINKED}{own}")

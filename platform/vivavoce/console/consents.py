"""`/console/consents`: who agreed to what, how it was checked, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from vivavoce.api.services import Here, Services, now
from vivavoce.audit.search import Query, search
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import speaker_name
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.service import effective_status
from vivavoce.consent.standing import lift, suspend
from vivavoce.console.audit_pages import entries
from vivavoce.console.desk import Admin, Reader, Sent, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.ledger.errors import Erased
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.rights import Verification
from vivavoce.ledger.tables import Consent, ConsentStatus, Tenant, Voice

router = APIRouter(prefix=f"{CONSOLE}/consents", tags=["console"], include_in_schema=False)

_PAGE = 50
_TIMELINE = 50
_MEASURES = (
    ("speech_seconds", "least_speech_seconds", "Speech, seconds"),
    ("level_db", "least_level_db", "Level, dB of full scale"),
    ("snr_db", "least_snr_db", "Signal to noise, dB"),
    ("clipped", "most_clipped", "Clipped, share of samples"),
    ("distance", "most_distance", "Distance from the text"),
    ("words_likeness", "least_words_likeness", "Likeness of sentence and one-time words"),
    ("window_likeness", "least_window_likeness", "Likeness of the least like 2 s"),
    ("halves_likeness", "least_halves_likeness", "Likeness before and after any moment"),
)
"""What was measured, what it was held against, and what that is called."""


class Reason(Sent):
    """Why; sealed in the log."""

    reason: str


@dataclass(frozen=True)
class Measure:
    """A measured value and its threshold."""

    name: str
    value: float
    bound: str
    good: bool


@router.get("")
def read_all(
    operator: Reader, here: Here, status: str = "", tenant: str = "", person: str = "", after: str = ""
) -> Response:
    """List consents, newest first."""
    asked = {"tenant": tenant, "person": person}
    write_down(here, operator, Tag.CONSENT_READ, {name: value for name, value in asked.items() if is_id(value)})
    wanted = select(Consent).order_by(Consent.id.desc()).limit(_PAGE + 1)
    for chosen, column in ((status, Consent.status), (tenant, Consent.tenant_id)):
        wanted = wanted.where(column == chosen) if chosen else wanted
    if person:
        wanted = wanted.where(or_(Consent.id == person, Consent.subject_id == person))
    with here.database.read() as session:
        found = session.scalars(wanted.where(Consent.id < after) if after else wanted).all()
        rows = [(consent, _name(session, here, consent), effective_status(consent, now())) for consent in found[:_PAGE]]
        tenants = session.scalars(select(Tenant).order_by(Tenant.name)).all()
    return show(
        "consents.html",
        operator,
        rows=rows,
        chosen=status,
        tenant=tenant,
        person=person,
        tenants=tenants,
        statuses=list(ConsentStatus),
        next=found[_PAGE - 1].id if len(found) > _PAGE else None,
    )


@router.get("/{consent_id}")
def read(consent_id: str, operator: Reader, here: Here) -> Response:
    """Show a consent with its timeline."""
    with here.database.read() as session:
        found = _find(session, consent_id)
    refs = {"consent": found.id, "subject": found.subject_id}
    write_down(here, operator, Tag.CONSENT_READ, refs, tenant_id=found.tenant_id)
    with here.database.read() as session:
        consent = _find(session, consent_id)
        about = Query(named=[{consent.id, consent.subject_id}])
        return show(
            "consent.html",
            operator,
            consent=consent,
            name=_name(session, here, consent),
            tenant=session.get_one(Tenant, consent.tenant_id),
            state=effective_status(consent, now()),
            voices=session.scalars(select(Voice).where(Voice.consent_id == consent.id).order_by(Voice.id)).all(),
            timeline=entries(search(session, here.log, about, None, _TIMELINE).leaves),
            **_verification(session.get(Verification, consent.id)),
        )


@router.post("/{consent_id}/suspend")
def put_out_of_force(consent_id: str, form: Annotated[Reason, Form()], operator: Admin, here: Here) -> Response:
    """Suspend a consent: nothing is made or handed out under it until an admin lifts it."""
    with here.database.write() as session:
        suspend(session, here.log, consent_id, form.reason, operator.actor, "admin", now())
    return RedirectResponse(f"{CONSOLE}/consents/{consent_id}", 303)


@router.post("/{consent_id}/lift")
def put_back_in_force(consent_id: str, form: Annotated[Reason, Form()], operator: Admin, here: Here) -> Response:
    """Lift a suspension."""
    with here.database.write() as session:
        lift(session, here.log, consent_id, form.reason, operator.actor, "admin")
    return RedirectResponse(f"{CONSOLE}/consents/{consent_id}", 303)


def _find(session: Session, consent_id: str) -> Consent:
    consent = session.get(Consent, consent_id) if is_id(consent_id) else None
    if consent is None:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    return consent


def _name(session: Session, here: Services, consent: Consent) -> str | None:
    try:
        return speaker_name(session, here.keyring, consent)
    except Erased:
        return None


def _verification(row: Verification | None) -> dict[str, Any]:
    if row is None:
        return {"verification": None, "measures": []}
    found = []
    for name, threshold, called in _MEASURES:
        if row.measures.get(name) is None:
            continue
        value, bound = float(row.measures[name]), float(row.thresholds[threshold])
        least = threshold.startswith("least")
        good = value >= bound if least else value <= bound
        found.append(Measure(called, value, f"{'at least' if least else 'at most'} {bound:g}", good))
    return {"verification": row, "measures": found}

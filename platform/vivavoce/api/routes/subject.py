"""`/subject/{token}`: a speaker's own way in. No account: who holds the link reads, exports, withdraws, is erased.

Withdrawing takes one request without a body, as giving took one recording. A browser gets pages that work without a
script, a program JSON.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel
from sqlalchemy import func, select

from vivavoce.api.gate import LINKED, BySpeaker, Speaker
from vivavoce.api.routes.rights import ErasureView, erased
from vivavoce.api.services import Here, Services, now
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.links import revoke_link
from vivavoce.consent.receipt_issue import issue_receipt
from vivavoce.consent.service import effective_status, find_consent
from vivavoce.consent.statements import statement
from vivavoce.console.pages import browses, page
from vivavoce.ledger.tables import Consent, ConsentStatus, Job, Output, Subject, Tenant, Voice
from vivavoce.policy.export import export_subject
from vivavoce.release.withdrawal import withdraw

router = APIRouter(prefix="/subject/{token}", tags=["subject"])

_ENDED = (ConsentStatus.REVOKED, ConsentStatus.ERASED)
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""The address is a secret: no cache keeps the answer, and no other page is told where its reader came from."""


class GivenConsent(BaseModel):
    """A consent as its speaker sees it."""

    id: str
    to: str
    """Who may use the voice."""
    status: str
    assurance: str
    statement: str
    """What was read aloud, with its slots open."""
    language: str
    operations: list[str]
    purposes: list[str]
    languages: list[str]
    territory: list[str]
    commercial: bool
    valid_from: datetime
    expires_at: datetime
    revoked_at: datetime | None
    renews: str | None
    voices: int


class MadeView(BaseModel):
    """How many sounds somebody made for one purpose."""

    by: str
    purpose: str
    sounds: int


class SubjectView(BaseModel):
    """All that concerns a speaker, in short; the export has it in full."""

    subject: str
    erased_at: datetime | None
    consents: list[GivenConsent]
    outputs: int
    """Sounds that were made with the voice."""
    made: list[MadeView]


class Withdrawn(BaseModel):
    """Confirms a withdrawal."""

    withdrawn: list[str]
    """Ids of the consents that are withdrawn now."""


class Closed(BaseModel):
    """Confirms that a link opens nothing any more."""

    id: str
    revoked: bool = True


@router.get("", response_model=SubjectView)
def read(token: str, speaker: BySpeaker, here: Here, request: Request, response: Response) -> Any:  # noqa: ANN401
    """Read what you have consented to and what was made. The reading is logged."""
    response.headers.update(_PRIVATE)
    _log(here, speaker, Tag.SUBJECT_READ)
    view = _all(here, speaker)
    return page("subject.html", view=view, address=f"{LINKED}{token}") if browses(request) else view


def _all(here: Services, speaker: Speaker) -> SubjectView:
    with here.database.read() as session:
        subject = session.get_one(Subject, speaker.subject_id)
        consents = session.scalars(_consents(speaker)).all()
        outputs = session.scalar(select(func.count()).where(Output.subject_id == subject.id)) or 0
        views = []
        for consent in consents:
            same = {name: getattr(consent, name) for name in GivenConsent.model_fields if hasattr(consent, name)}
            read_aloud = statement(consent.language, consent.statement_version).text
            voices = session.scalar(select(func.count()).where(Voice.consent_id == consent.id)) or 0
            to = session.get_one(Tenant, consent.tenant_id).name
            status = effective_status(consent, now())
            views.append(GivenConsent(**same | {"status": status, "to": to, "statement": read_aloud, "voices": voices}))
        made = session.execute(_made(speaker)).all()
    return SubjectView(
        subject=subject.id,
        erased_at=subject.erased_at,
        consents=views,
        outputs=outputs,
        made=[MadeView(by=by, purpose=purpose, sounds=sounds) for by, purpose, sounds in made],
    )


@router.post("/withdraw", response_model=Withdrawn)
def withdraw_everything(token: str, speaker: BySpeaker, here: Here, request: Request) -> Any:  # noqa: ANN401
    """Withdraw all your consents, at once and for good. Again, it changes nothing."""
    with here.database.read() as session:
        given = [consent.id for consent in session.scalars(_consents(speaker)) if consent.status not in _ENDED]
    for consent_id in given:
        _withdraw(here, speaker, consent_id)
    return _done(request, token, Withdrawn(withdrawn=given))


@router.post("/consents/{consent_id}/withdraw", response_model=Withdrawn)
def withdraw_one(token: str, consent_id: str, speaker: BySpeaker, here: Here, request: Request) -> Any:  # noqa: ANN401
    """Withdraw one consent, at once and for good. Again, it changes nothing."""
    _own(here, speaker, consent_id)
    _withdraw(here, speaker, consent_id)
    return _done(request, token, Withdrawn(withdrawn=[consent_id]))


@router.get("/consents/{consent_id}/receipt")
def receipt(consent_id: str, speaker: BySpeaker, here: Here) -> JSONResponse:
    """Get the signed receipt of a consent as it stands now; `vivavoce consent verify` checks it anywhere."""
    _own(here, speaker, consent_id)
    with here.database.write() as session:
        text = issue_receipt(session, here.log, here.keyring, consent_id, speaker.actor, now())
    return JSONResponse(json.loads(text), headers=_PRIVATE)


@router.get("/export", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
def export(speaker: BySpeaker, here: Here) -> Response:
    """Get all that is known of you: JSON, receipts and your own recordings, in one zip."""
    with here.database.write() as session:
        file = export_subject(session, here.log, here.store, here.keyring, speaker.subject_id, speaker.actor, now())
    headers = _PRIVATE | {"Content-Disposition": 'attachment; filename="my-voice.zip"'}
    # door: a zip of JSON and the speaker's own uploads; no output is opened for it
    return Response(file, media_type="application/zip", headers=headers)


@router.post("/erase", response_model=ErasureView)
def be_erased(token: str, speaker: BySpeaker, here: Here, request: Request) -> Any:  # noqa: ANN401
    """Have everything about you destroyed. It cannot be undone; receipts and the log's proofs still verify."""
    return _done(request, token, erased(here, speaker.subject_id, speaker.actor))


@router.post("/close", response_model=Closed)
def close(speaker: BySpeaker, here: Here, request: Request) -> Any:  # noqa: ANN401
    """Make this link worthless, for instance because somebody else has seen it."""
    with here.database.write() as session:
        revoke_link(session, here.log, speaker.link_id, speaker.tenant_id, speaker.actor, now())
    return page("closed.html") if browses(request) else Closed(id=speaker.link_id)


def _done(request: Request, token: str, done: BaseModel) -> BaseModel | Response:
    """Answer a program; lead a browser back to its page."""
    return RedirectResponse(f"{LINKED}{token}", 303, _PRIVATE) if browses(request) else done


def _made(speaker: Speaker) -> Any:  # noqa: ANN401 - SQLAlchemy's own generic
    return (
        select(Tenant.name, Job.purpose, func.count())
        .join(Output, Output.tenant_id == Tenant.id)
        .join(Job, Job.id == Output.job_id)
        .where(Output.subject_id == speaker.subject_id)
        .group_by(Tenant.name, Job.purpose)
        .order_by(Tenant.name, Job.purpose)
    )


def _consents(speaker: Speaker) -> Any:  # noqa: ANN401 - SQLAlchemy's own generic
    return select(Consent).where(Consent.subject_id == speaker.subject_id).order_by(Consent.id)


def _own(here: Services, speaker: Speaker, consent_id: str) -> None:
    with here.database.read() as session:
        if find_consent(session, speaker.tenant_id, consent_id).subject_id != speaker.subject_id:
            raise ConsentRefused("unknown_consent", "there is no such consent")


def _withdraw(here: Services, speaker: Speaker, consent_id: str) -> None:
    with here.database.write() as session:
        withdraw(session, here.log, consent_id, "withdrawn by the speaker", speaker.actor, now())


def _log(here: Services, speaker: Speaker, tag: Tag) -> None:
    with here.database.write() as session:
        here.log.append(session, Entry(tag, speaker.tenant_id, speaker.actor, {"subject": speaker.subject_id}))

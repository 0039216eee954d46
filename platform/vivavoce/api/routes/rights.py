"""`/v1/consents/{id}/...`: what a tenant, or an admin, does with a consent that was given."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import BaseModel
from sqlalchemy.orm import Session

from vivavoce.api.gate import LINKED, Caller, allowed
from vivavoce.api.routes.consents import ConsentForm, shown
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import Body, ConsentView
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentInvalid, ConsentRefused
from vivavoce.consent.links import create_link, revoke_link
from vivavoce.consent.service import check_recording, find_consent
from vivavoce.consent.standing import lift, plain_reason, renew, suspend
from vivavoce.ledger.errors import ObjectStoreUnavailable
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.withdrawal import erase, withdraw
from vivavoce.sound import SoundError

router = APIRouter(prefix="/v1/consents/{consent_id}", tags=["rights"])

Writer = Annotated[Caller, allowed(Scope.CONSENTS_WRITE)]


class Reason(Body):
    """Why; sealed in the log."""

    reason: str


class LinkView(BaseModel):
    """A speaker's link; its address is shown this once."""

    id: str
    address: str
    expires_at: str


class ErasureView(BaseModel):
    """What was erased; zeros where nothing was left."""

    consents: int
    voices: int
    jobs: int
    outputs: int
    objects: int
    deleted: bool
    """Whether the objects are gone from the store already. What is not yet, the workers delete."""


class Renewed(ConsentForm):
    """The speaker's new word. What it covers is said anew; name and guardian stay."""


@router.post("/suspend")
def put_out_of_force(consent_id: str, body: Reason, caller: Writer, here: Here) -> ConsentView:
    """Suspend a consent: nothing is made or handed out under it until it is lifted. Admins reach every tenant's."""
    admin = Scope.ADMIN in caller.scopes
    with here.database.write() as session:
        _require_reach(session, caller, consent_id)
        consent = suspend(
            session, here.log, consent_id, body.reason, caller.key_id, "admin" if admin else "tenant", now()
        )
        return shown(session, here, consent)


@router.post("/lift")
def put_back_in_force(consent_id: str, body: Reason, caller: Writer, here: Here) -> ConsentView:
    """Lift a suspension. What an admin has suspended, an admin lifts."""
    admin = Scope.ADMIN in caller.scopes
    with here.database.write() as session:
        _require_reach(session, caller, consent_id)
        consent = lift(session, here.log, consent_id, body.reason, caller.key_id, "admin" if admin else "tenant")
        return shown(session, here, consent)


@router.post("/revoke")
def take_back(consent_id: str, body: Reason, caller: Writer, here: Here) -> ConsentView:
    """Withdraw a consent for good, with what is queued under it and what was made and not fetched."""
    reason = plain_reason(body.reason)
    with here.database.write() as session:
        find_consent(session, caller.tenant_id, consent_id)
        return shown(session, here, withdraw(session, here.log, consent_id, reason, caller.key_id, now()))


@router.post("/erase")
def forget(consent_id: str, caller: Writer, here: Here) -> ErasureView:
    """Erase the speaker of a consent: their key, recordings, and all that was made with their voice."""
    with here.database.read() as session:
        subject_id = find_consent(session, caller.tenant_id, consent_id).subject_id
    return erased(here, subject_id, caller.key_id)


@router.post("/renew")
def give_again(
    consent_id: str, form: Annotated[Renewed, Form(media_type="multipart/form-data")], caller: Writer, here: Here
) -> ConsentView:
    """Record the speaker's new word: a new consent that takes over the voices of the earlier one."""
    with here.database.read() as session:
        find_consent(session, caller.tenant_id, consent_id)
    try:
        recording = check_recording(form.recording.file.read())
        with here.database.write() as session:
            consent = renew(
                session,
                here.log,
                here.store,
                here.keyring,
                consent_id,
                actor=caller.key_id,
                recording=recording,
                language=form.language,
                scope=form.scope(),
                now=now(),
            )
            return shown(session, here, consent)
    except (SoundError, ConsentInvalid, ConsentRefused) as refusal:
        with here.database.write() as session:
            facts = {"code": refusal.code}
            entry = Entry(Tag.CONSENT_REFUSE, caller.tenant_id, caller.key_id, {"consent": consent_id}, facts)
            here.log.append(session, entry)
        raise


@router.post("/links")
def invite(consent_id: str, caller: Writer, here: Here) -> LinkView:
    """Make a link for the speaker, who needs no account: to read, to export, to withdraw, to be erased."""
    with here.database.write() as session:
        consent = find_consent(session, caller.tenant_id, consent_id)
        link, token = create_link(session, here.log, here.keyring, consent, caller.key_id, now())
        return LinkView(id=link.id, address=f"{LINKED}{token}", expires_at=link.expires_at.isoformat())


@router.delete("/links/{link_id}")
def uninvite(consent_id: str, link_id: str, caller: Writer, here: Here) -> dict[str, str | bool]:
    """Make a link worthless. The speaker can be given another."""
    with here.database.write() as session:
        find_consent(session, caller.tenant_id, consent_id)
        revoke_link(session, here.log, link_id, caller.tenant_id, caller.key_id, now())
    return {"id": link_id, "deleted": True}


def erased(here: Services, subject_id: str, actor: str) -> ErasureView:
    """Erase a person, and delete their objects at once if the store answers; otherwise the workers do."""
    with here.database.write() as session:
        found = erase(session, here.log, subject_id, actor, now())
    try:
        delete_doomed(here.database, here.store, here.log, actor)
        deleted = True
    except ObjectStoreUnavailable:
        deleted = False
    return ErasureView(
        consents=found.consents, voices=found.voices, jobs=found.jobs, outputs=found.outputs, objects=found.objects,
        deleted=deleted,
    )  # fmt: skip


def _require_reach(session: Session, caller: Caller, consent_id: str) -> None:
    """Refuse other tenants' consents, as unknown, unless an admin asks."""
    if Scope.ADMIN not in caller.scopes:
        find_consent(session, caller.tenant_id, consent_id)

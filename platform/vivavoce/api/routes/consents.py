"""`/v1/audio/voice_consents`: give, read and withdraw consents (OpenAI's shape, with our scope fields)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import After, Body, ConsentView, Deleted, FormBody, Limit, Page, consent_view, page
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import Guardian, Relationship, rename
from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.scope import Purpose
from vivavoce.consent.scope import Scope as ConsentScope
from vivavoce.consent.service import (
    check_recording,
    create_consent,
    effective_status,
    find_consent,
    speaker_name,
)
from vivavoce.ledger.errors import Erased
from vivavoce.ledger.tables import Consent, Operation
from vivavoce.release.withdrawal import withdraw as withdraw_all
from vivavoce.sound import SoundError

router = APIRouter(prefix="/v1/audio/voice_consents", tags=["consents"])

Reader = Annotated[Caller, allowed(Scope.CONSENTS_READ)]
Writer = Annotated[Caller, allowed(Scope.CONSENTS_WRITE)]


class Covered(Body):
    """What a consent covers, and in which language it is given."""

    language: str
    operations: frozenset[Operation] = frozenset(Operation)
    purposes: frozenset[Purpose] = frozenset({Purpose.GENERAL})
    languages: list[str] = Field(default=[], max_length=100)
    territory: list[str] = Field(default=[], max_length=300)
    commercial: bool = False
    expires_in_days: int = Field(default=365, ge=1, le=3652)

    def scope(self) -> ConsentScope:
        """What the consent covers; raises `ConsentInvalid`."""
        return ConsentScope(
            operations=self.operations,
            purposes=self.purposes,
            languages=tuple(self.languages),
            territory=tuple(self.territory),
            commercial=self.commercial,
            lifetime=timedelta(days=self.expires_in_days),
        )


class ConsentForm(FormBody, Covered):
    """A recorded word, with what it covers."""

    recording: UploadFile


class Consenting(Covered):
    """Who consents, and for a minor the guardian who consents too."""

    name: str
    guardian: str | None = None
    """Name of the guardian; the speaker is a minor then."""
    guardian_relationship: Relationship = Relationship.PARENT

    def consenting(self) -> Guardian | None:
        """Who consents for a minor."""
        return None if self.guardian is None else Guardian(self.guardian, self.guardian_relationship)


class NewConsent(ConsentForm, Consenting):
    """A recorded consent, and by whom."""


class NewName(Body):
    """The only thing of a consent that can be corrected."""

    name: str


@router.post("")
def create(
    form: Annotated[NewConsent, Form(media_type="multipart/form-data")], caller: Writer, here: Here
) -> ConsentView:
    """Record a speaker's consent. The caller attests who spoke; nothing has verified it (assurance `attested`)."""
    try:
        recording = check_recording(form.recording.file.read())
        with here.database.write() as session:
            consent = create_consent(
                session,
                here.log,
                here.store,
                here.keyring,
                tenant_id=caller.tenant_id,
                actor=caller.key_id,
                name=form.name,
                recording=recording,
                language=form.language,
                scope=form.scope(),
                guardian=form.consenting(),
                now=now(),
            )
            return shown(session, here, consent)
    except (SoundError, ConsentInvalid) as refusal:
        _log(here, caller, Tag.CONSENT_REFUSE, {}, {"code": refusal.code})
        raise


@router.get("")
def read_all(
    caller: Reader,
    here: Here,
    after: After = None,
    limit: Limit = 20,
) -> Page[ConsentView]:
    """List the tenant's consents, newest first. The reading of names is logged."""
    statement = select(Consent).where(Consent.tenant_id == caller.tenant_id).order_by(Consent.id.desc())
    if after is not None:
        statement = statement.where(Consent.id < after)
    with here.database.read() as session:
        consents = session.scalars(statement.limit(limit + 1)).all()
        views = [shown(session, here, consent) for consent in consents]
    _log(here, caller, Tag.CONSENT_READ, {}, {"listed": min(limit, len(views))})
    return page(views, limit, [view.id for view in views])


@router.get("/{consent_id}")
def read(consent_id: str, caller: Reader, here: Here) -> ConsentView:
    """Read one consent. The reading of the name is logged."""
    with here.database.read() as session:
        view = shown(session, here, find_consent(session, caller.tenant_id, consent_id))
    _log(here, caller, Tag.CONSENT_READ, {"consent": view.id}, {})
    return view


@router.post("/{consent_id}")
def update(consent_id: str, body: NewName, caller: Writer, here: Here) -> ConsentView:
    """Correct the speaker's name. Scope, time and evidence can't be changed: give a new consent instead."""
    with here.database.write() as session:
        consent = find_consent(session, caller.tenant_id, consent_id)
        try:
            rename(session, here.log, here.keyring, consent, body.name, caller.key_id)
        except Erased as error:
            raise ConsentInvalid("consent_erased", "the speaker has been erased") from error
        return shown(session, here, consent)


@router.delete("/{consent_id}")
def withdraw(consent_id: str, caller: Writer, here: Here) -> Deleted:
    """Withdraw a consent, at once and for good. What was recorded about it stays in the log, sealed."""
    with here.database.write() as session:
        find_consent(session, caller.tenant_id, consent_id)
        withdraw_all(session, here.log, consent_id, "withdrawn through the tenant", caller.key_id, now())
    return Deleted(id=consent_id, object="audio.voice_consent")


def shown(session: Session, here: Services, consent: Consent) -> ConsentView:
    """Show a consent, with the speaker's name where it can still be read."""
    try:
        name = speaker_name(session, here.keyring, consent)
    except Erased:
        name = None
    return consent_view(consent, effective_status(consent, now()), name)


def _log(here: Services, caller: Caller, tag: Tag, refs: dict[str, str | int], facts: dict[str, str | int]) -> None:
    with here.database.write() as session:
        here.log.append(session, Entry(tag, caller.tenant_id, caller.key_id, refs, facts))

"""`/v1/consents`: consents that are verified. A speaker reads one-time words aloud; a worker listens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, UploadFile
from pydantic import BaseModel
from sqlalchemy.orm import Session

from vivavoce.api.gate import INVITED, Caller, allowed
from vivavoce.api.problems import Problem
from vivavoce.api.routes.consents import Consenting
from vivavoce.api.routes.consents import shown as consent_shown
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import ConsentView, FormBody
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.consent import challenge
from vivavoce.consent.errors import ConsentInvalid, ConsentRefused
from vivavoce.consent.invitations import invite, speaker_of
from vivavoce.consent.service import check_recording, find_consent
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.rights import Invitation, Verification
from vivavoce.ledger.tables import Consent
from vivavoce.policy import verification
from vivavoce.sound import SoundError
from vivavoce.workers.tasknames import ring

router = APIRouter(prefix="/v1/consents", tags=["consents"])

Reader = Annotated[Caller, allowed(Scope.CONSENTS_READ)]
Writer = Annotated[Caller, allowed(Scope.CONSENTS_WRITE)]


class NewChallenge(Consenting):
    """Whom to ask, and for what. A guardian reads for a speaker who is a minor."""

    def asked(self) -> challenge.Asked:
        """What the challenge is about; raises `ConsentInvalid`."""
        return challenge.Asked(self.name, self.language, self.scope(), self.consenting())


class ChallengeView(BaseModel):
    """What to show to the speaker: the notice first, then the text, to be read aloud word for word."""

    id: str
    language: str
    notice: str
    notice_version: str
    text: str
    statement_version: str
    words: list[str]
    """The one-time words in the text, in their order."""
    expires_at: datetime


class InvitationView(BaseModel):
    """Where a speaker reads and records; its address is shown this once."""

    id: str
    address: str
    expires_at: datetime


class Answer(FormBody):
    """What the speaker has read aloud."""

    challenge: str
    recording: UploadFile


class ReasonView(BaseModel):
    """Why a recording was not accepted."""

    code: str
    detail: str


class VerificationView(BaseModel):
    """How the verification of a consent stands."""

    consent: ConsentView
    job: str
    verdict: Literal["accepted", "again", "refused"] | None
    """Null while it is not decided. `again`: ask for another challenge, and record it better. With `accepted` there is
    at most one reason, `doubtful_speaker`: voices that are founded on the consent wait for a review."""
    reasons: list[ReasonView]
    measures: dict[str, Any]
    thresholds: dict[str, Any]
    models: dict[str, str]
    decided_at: datetime | None


@router.post("/challenges")
def ask(body: NewChallenge, caller: Writer, here: Here) -> ChallengeView:
    """Draw a sentence with one-time words for a speaker. It can be answered once, for ten minutes."""
    try:
        with here.database.write() as session:
            row, shown = challenge.ask(
                session, here.log, here.keyring, body.asked(), tenant_id=caller.tenant_id, actor=caller.key_id,
                now=now(),
            )  # fmt: skip
            return ChallengeView(
                id=row.id,
                language=shown.language,
                notice=shown.notice,
                notice_version=shown.notice_version,
                text=shown.text,
                statement_version=shown.statement_version,
                words=list(shown.words),
                expires_at=row.expires_at,
            )
    except ConsentInvalid as refusal:
        _log_refusal(here, caller.tenant_id, caller.key_id, "", refusal.code)
        raise


@router.post("/invitations")
def invite_speaker(body: NewChallenge, caller: Writer, here: Here) -> InvitationView:
    """Make an address where a speaker, without an account, reads the notice and records a challenge in a browser."""
    try:
        with here.database.write() as session:
            row, token = invite(
                session, here.log, here.keyring, body.asked(), tenant_id=caller.tenant_id, api_key_id=caller.key_id,
                now=now(),
            )  # fmt: skip
            return InvitationView(id=row.id, address=f"{INVITED}{token}", expires_at=row.expires_at)
    except ConsentInvalid as refusal:
        _log_refusal(here, caller.tenant_id, caller.key_id, "", refusal.code)
        raise


@router.post("", status_code=202)
def answer(
    form: Annotated[Answer, Form(media_type="multipart/form-data")], caller: Writer, here: Here
) -> VerificationView:
    """Hand in the recording. The consent is `pending` until a worker has listened to it."""
    consent_id = answered(here, form, caller.tenant_id, caller.key_id, caller.key_id)
    with here.database.read() as session:
        return _view(session, here, find_consent(session, caller.tenant_id, consent_id))


@router.get("/{consent_id}/verification")
def read(consent_id: str, caller: Reader, here: Here) -> VerificationView:
    """See how the verification of a consent stands. The reading of the name is logged."""
    with here.database.write() as session:
        view = _view(session, here, find_consent(session, caller.tenant_id, consent_id))
        refs: dict[str, str | int] = {"consent": consent_id}
        here.log.append(session, Entry(Tag.CONSENT_READ, caller.tenant_id, caller.key_id, refs, {}))
    return view


def _view(session: Session, here: Services, consent: Consent) -> VerificationView:
    row = session.get(Verification, consent.id)
    if row is None:
        raise Problem(404, "no_verification", "The consent was attested; nothing has verified it.")
    return VerificationView(
        consent=consent_shown(session, here, consent),
        job=row.job_id,
        verdict=row.verdict,  # type: ignore[arg-type]  # a column
        reasons=[ReasonView(code=code, detail=verification.REASONS[code]) for code in row.reasons],
        measures=row.measures,
        thresholds=row.thresholds,
        models=row.models,
        decided_at=row.decided_at,
    )


def answered(
    here: Services, form: Answer, tenant_id: str, api_key_id: str, actor: str, invitation_id: str | None = None
) -> str:
    """Hand a recording in and have it verified; returns the consent's id. Refusals are logged, and raised again.

    Args:
        actor: Who hands it in: a key, or an invited speaker.
        invitation_id: What the speaker came by; it then points at the consent.
    """
    moment = now()
    try:
        recording = check_recording(form.recording.file.read())
        with here.database.write() as session:
            speaker = None
            if invitation_id is not None:
                invited = session.get_one(Invitation, invitation_id, with_for_update={"key_share": True})
                speaker = speaker_of(session, invited)
            consent, shown = challenge.answer(
                session, here.log, here.store, here.keyring, form.challenge, recording,
                tenant_id=tenant_id, actor=actor, now=moment, speaker=speaker,
            )  # fmt: skip
            job = verification.queue(
                session, here.log, here.keyring, here.store, consent, form.challenge, shown, api_key_id, moment
            )
            if invitation_id is not None:
                invited.consent_id = consent.id
            made = consent.id
    except (SoundError, ConsentInvalid, ConsentRefused) as refusal:
        _log_refusal(here, tenant_id, actor, form.challenge, refusal.code)
        raise
    ring(here.bell, job.id)
    return made


def _log_refusal(here: Services, tenant_id: str, actor: str, challenge_id: str, code: str) -> None:
    refs: dict[str, str | int] = {"challenge": challenge_id} if is_id(challenge_id) else {}
    with here.database.write() as session:
        here.log.append(session, Entry(Tag.CHALLENGE_REFUSE, tenant_id, actor, refs, {"code": code}))

"""`/v1/audio/voices`: found, read and delete voices (OpenAI's shape)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from sqlalchemy import select

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.problems import Problem
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import After, Deleted, FormBody, Limit, Page, VoiceView, page, voice_view
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentInvalid, ConsentRefused
from vivavoce.consent.voices import check_clip, create_voice, delete_voice, find_voice
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import Voice
from vivavoce.sound import SoundError

router = APIRouter(prefix="/v1/audio/voices", tags=["voices"])

Reader = Annotated[Caller, allowed(Scope.VOICES_READ)]
Writer = Annotated[Caller, allowed(Scope.VOICES_WRITE)]


class NewVoice(FormBody):
    """A voice on one reference clip. `prompt` voices, which are nobody's, are not made here."""

    name: str
    consent: str | None = None
    audio_sample: UploadFile | None = None
    transcript: str = ""
    type: str = "audio_sample"


@router.post("")
def create(form: Annotated[NewVoice, Form(media_type="multipart/form-data")], caller: Writer, here: Here) -> VoiceView:
    """Found a voice on a recording of the speaker who gave the consent."""
    if form.type != "audio_sample":
        raise Problem(
            400, "unsupported_voice_type", "Voices are made from an audio sample and a consent.", field="type"
        )
    if form.consent is None or form.audio_sample is None:
        raise Problem(400, "invalid_request", "consent and audio_sample are required.")
    try:
        clip = check_clip(form.audio_sample.file.read(), form.transcript)
        with here.database.write() as session:
            voice = create_voice(
                session,
                here.log,
                here.store,
                here.keyring,
                tenant_id=caller.tenant_id,
                actor=caller.key_id,
                name=form.name,
                consent_id=form.consent,
                clip=clip,
                now=now(),
            )
            return voice_view(voice)
    except (SoundError, ConsentInvalid, ConsentRefused) as refusal:
        _log_refusal(here, caller, form.consent, refusal.code)
        raise


@router.get("")
def read_all(
    caller: Reader,
    here: Here,
    after: After = None,
    limit: Limit = 20,
) -> Page[VoiceView]:
    """List the tenant's voices, newest first."""
    mine = select(Voice).where(Voice.tenant_id == caller.tenant_id, Voice.deleted_at.is_(None))
    if after is not None:
        mine = mine.where(Voice.id < after)
    with here.database.read() as session:
        voices = session.scalars(mine.order_by(Voice.id.desc()).limit(limit + 1)).all()
    return page([voice_view(voice) for voice in voices], limit, [voice.id for voice in voices])


@router.get("/{voice_id}")
def read(voice_id: str, caller: Reader, here: Here) -> VoiceView:
    """Read one voice."""
    with here.database.read() as session:
        return voice_view(find_voice(session, caller.tenant_id, voice_id))


@router.delete("/{voice_id}")
def delete(voice_id: str, caller: Writer, here: Here) -> Deleted:
    """Let nobody speak with a voice any more. The consent behind it stays as it is."""
    with here.database.write() as session:
        delete_voice(session, here.log, find_voice(session, caller.tenant_id, voice_id), caller.key_id, now())
    return Deleted(id=voice_id, object="audio.voice")


def _log_refusal(here: Services, caller: Caller, consent_id: str, code: str) -> None:
    refs: dict[str, str | int] = {"consent": consent_id} if is_id(consent_id) else {}
    with here.database.write() as session:
        here.log.append(session, Entry(Tag.VOICE_REFUSE, caller.tenant_id, caller.key_id, refs, {"code": code}))

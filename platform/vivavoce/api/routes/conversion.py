"""`/v1/speech-to-speech/{voice_id}`: somebody's words in a consented voice (ElevenLabs' shape, and newer name)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool

from vivavoce.api.flow import IdempotencyKey, Prefer, sound_answer, with_input
from vivavoce.api.gate import Caller, allowed
from vivavoce.api.routes.speech import SOUND
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.api.shapes import Commercial, FormBody, Language, OutputFormat, Seed, Territory, plain_format
from vivavoce.api.streaming import stream_answer
from vivavoce.consent import Purpose
from vivavoce.ledger.tables import JobKind
from vivavoce.policy.requests import Submission

router = APIRouter(tags=["conversion"])

MIN_INPUT_SECONDS = 0.5


class ConversionForm(FormBody):
    """What is to be said, as a recording."""

    audio: UploadFile
    model_id: str = "vivavoce"
    """Accepted for compatibility: an installation has one model, and each output names it."""
    purpose: Purpose = Purpose.GENERAL
    language: Language | None = None
    territory: Territory | None = None
    commercial: Commercial = False
    seed: Seed | None = None


ForConversion = Annotated[Caller, allowed(Scope.CONVERSION)]


async def _submission(
    voice_id: str,
    form: Annotated[ConversionForm, Form(media_type="multipart/form-data")],
    caller: ForConversion,
    here: Here,
    output_format: OutputFormat = "mp3",
    idempotency_key: IdempotencyKey = None,
) -> Submission:
    wanted = plain_format(output_format)
    asked = {"format": wanted} | ({} if form.seed is None else {"seed": form.seed})
    submission = Submission(
        tenant_id=caller.tenant_id,
        api_key_id=caller.key_id,
        kind=JobKind.CONVERSION,
        request=asked,
        voice_id=voice_id,
        purpose=form.purpose,
        language=form.language,
        territory=form.territory,
        commercial=form.commercial,
        format=wanted,
        idempotency_key=idempotency_key,
    )
    return await run_in_threadpool(with_input, here, submission, form.audio, MIN_INPUT_SECONDS)


Asked = Annotated[Submission, Depends(_submission)]


@router.post("/v1/speech-to-speech/{voice_id}", response_class=Response, responses=SOUND)
@router.post("/v1/voice-changer/{voice_id}", response_class=Response, responses=SOUND)
async def convert(request: Request, asked: Asked, caller: ForConversion, here: Here, prefer: Prefer = None) -> Response:
    """Say in a voice what somebody else says in a recording."""
    return await sound_answer(request, here, caller, asked, prefer)


@router.post("/v1/speech-to-speech/{voice_id}/stream", response_class=Response, responses=SOUND)
@router.post("/v1/voice-changer/{voice_id}/stream", response_class=Response, responses=SOUND)
async def stream(request: Request, asked: Asked, caller: ForConversion, here: Here, prefer: Prefer = None) -> Response:
    """Say in a voice what somebody else says in a recording, and send the sound while it is made."""
    return await stream_answer(request, here, caller, asked, prefer, "audio")

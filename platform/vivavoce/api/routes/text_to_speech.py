"""`/v1/text-to-speech/{voice_id}`: text to speech in a consented voice (ElevenLabs' shape)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from vivavoce.api.flow import IdempotencyKey, Prefer, sound_answer
from vivavoce.api.gate import Caller, allowed
from vivavoce.api.routes.speech import SOUND, SpeechBody, submission_of
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.api.shapes import Body, OutputFormat, Seed, plain_format
from vivavoce.consent import Purpose

router = APIRouter(prefix="/v1/text-to-speech", tags=["speech"])


class TextToSpeechBody(Body):
    """ElevenLabs' fields, as far as they mean anything here; then ours."""

    text: str
    model_id: Annotated[str | None, Field(max_length=100)] = None
    """Accepted for compatibility: an installation has one model, and each output names it."""
    language_code: Annotated[str | None, Field(pattern=r"^[a-z]{2,3}$")] = None
    seed: Seed | None = None
    purpose: Purpose = Purpose.GENERAL


@router.post("/{voice_id}", response_class=Response, responses=SOUND)
@router.post("/{voice_id}/stream", response_class=Response, responses=SOUND)
async def speak(
    voice_id: str,
    body: TextToSpeechBody,
    request: Request,
    caller: Annotated[Caller, allowed(Scope.SPEECH)],
    here: Here,
    output_format: OutputFormat = "mp3",
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Say a text in a voice, for a purpose that its speaker has consented to."""
    asked = SpeechBody(
        input=body.text,
        voice=voice_id,
        response_format=plain_format(output_format),
        purpose=body.purpose,
        language=body.language_code,
        seed=body.seed,
    )
    return await sound_answer(request, here, caller, submission_of(asked, caller, idempotency_key), prefer)

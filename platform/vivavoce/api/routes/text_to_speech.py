"""`/v1/text-to-speech/{voice_id}`: text to speech in a consented voice (ElevenLabs' shape)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from vivavoce.api.flow import IdempotencyKey, Prefer, sound_answer
from vivavoce.api.gate import Caller, allowed
from vivavoce.api.routes.speech import SOUND, SpeechBody, submission_of
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.api.shapes import Body, Commercial, OutputFormat, Seed, Territory, plain_format
from vivavoce.api.streaming import stream_answer
from vivavoce.consent import Purpose
from vivavoce.policy.requests import Submission

router = APIRouter(prefix="/v1/text-to-speech", tags=["speech"])


class TextToSpeechBody(Body):
    """ElevenLabs' fields, as far as they mean anything here; then ours."""

    text: str
    model_id: Annotated[str | None, Field(max_length=100)] = None
    """Accepted for compatibility: an installation has one model, and each output names it."""
    language_code: Annotated[str | None, Field(pattern=r"^[a-z]{2,3}$")] = None
    seed: Seed | None = None
    purpose: Purpose = Purpose.GENERAL
    territory: Territory | None = None
    commercial: Commercial = False


ForSpeech = Annotated[Caller, allowed(Scope.SPEECH)]


def _submission(
    voice_id: str,
    body: TextToSpeechBody,
    caller: ForSpeech,
    output_format: OutputFormat = "mp3",
    idempotency_key: IdempotencyKey = None,
) -> Submission:
    asked = SpeechBody(
        input=body.text,
        voice=voice_id,
        response_format=plain_format(output_format),
        purpose=body.purpose,
        language=body.language_code,
        territory=body.territory,
        commercial=body.commercial,
        seed=body.seed,
    )
    return submission_of(asked, caller, idempotency_key)


Asked = Annotated[Submission, Depends(_submission)]


@router.post("/{voice_id}", response_class=Response, responses=SOUND)
async def speak(request: Request, asked: Asked, caller: ForSpeech, here: Here, prefer: Prefer = None) -> Response:
    """Say a text in a voice, for a purpose that its speaker has consented to."""
    return await sound_answer(request, here, caller, asked, prefer)


@router.post("/{voice_id}/stream", response_class=Response, responses=SOUND)
async def stream(request: Request, asked: Asked, caller: ForSpeech, here: Here, prefer: Prefer = None) -> Response:
    """Say a text in a voice and send the sound while it is made."""
    return await stream_answer(request, here, caller, asked, prefer, "audio")

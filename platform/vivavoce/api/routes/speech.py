"""`/v1/audio/speech`: text to speech in a consented voice (OpenAI's shape)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from vivavoce.api.flow import IdempotencyKey, Prefer, sound_answer
from vivavoce.api.gate import Caller, allowed
from vivavoce.api.problems import Problem
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.api.shapes import Body, Seed
from vivavoce.consent import Purpose
from vivavoce.ledger.tables import JobKind
from vivavoce.policy.requests import Submission
from vivavoce.sound import MEDIA_TYPES, Format

router = APIRouter(prefix="/v1/audio", tags=["speech"])

SOUND: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
    202: {"description": "The job."},
}
"""How an answer with sound is described in the OpenAPI document."""


class VoiceReference(Body):
    """A voice by its id."""

    id: str


class SpeechBody(Body):
    """OpenAI's fields, then ours."""

    input: str
    voice: str | VoiceReference
    model: Annotated[str, Field(max_length=100)] = "vivavoce"
    """Accepted for compatibility: an installation has one model, and each output names it."""
    response_format: Format = "mp3"
    instructions: str | None = None
    speed: float = 1.0
    stream_format: str = "audio"
    purpose: Purpose = Purpose.GENERAL
    language: Annotated[str | None, Field(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8}){0,3}$")] = None
    seed: Seed | None = None

    def request(self) -> dict[str, object]:
        """What the worker is asked."""
        asked = {"text": self.input, "format": self.response_format, "language": self.language, "seed": self.seed}
        asked |= {"instructions": self.instructions}
        return {name: value for name, value in asked.items() if value is not None}


@router.post("/speech", response_class=Response, responses=SOUND)
async def speak(
    body: SpeechBody,
    request: Request,
    caller: Annotated[Caller, allowed(Scope.SPEECH)],
    here: Here,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Say a text in a voice, for a purpose that its speaker has consented to."""
    if body.speed != 1.0:
        raise Problem(400, "speed_not_supported", "speed must be 1.0.", field="speed")
    if body.stream_format != "audio":
        raise Problem(400, "stream_format_not_supported", "stream_format must be audio.", field="stream_format")
    if body.instructions:
        raise Problem(400, "instructions_not_supported", "This model takes no instructions.", field="instructions")
    return await sound_answer(request, here, caller, submission_of(body, caller, idempotency_key), prefer)


def submission_of(body: SpeechBody, caller: Caller, idempotency_key: str | None) -> Submission:
    """Put a request for speech as admission takes it."""
    return Submission(
        tenant_id=caller.tenant_id,
        api_key_id=caller.key_id,
        kind=JobKind.SPEECH,
        request=body.request(),
        voice_id=body.voice if isinstance(body.voice, str) else body.voice.id,
        purpose=body.purpose,
        language=body.language,
        format=body.response_format,
        idempotency_key=idempotency_key,
    )

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
from vivavoce.api.shapes import Body, Commercial, Language, Seed, Territory
from vivavoce.api.streaming import EVENTS, StreamFormat, stream_answer
from vivavoce.consent import Purpose
from vivavoce.ledger.tables import JobKind
from vivavoce.policy.requests import Submission
from vivavoce.sound import FASTEST, MEDIA_TYPES, SLOWEST, Format

router = APIRouter(prefix="/v1/audio", tags=["speech"])

SOUND: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
    202: {"description": "The job."},
}
"""How an answer with sound is described in the OpenAPI document."""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": SOUND[200]["content"] | {EVENTS: {}}},
    202: SOUND[202],
}
"""The same, where the sound may come as events."""


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
    """Refused unless empty: the model takes none, and a sound that ignores them would not be what was asked for."""
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] = 1.0
    """How many times faster than the model speaks, at the same pitch."""
    stream_format: StreamFormat | None = None
    """Let the sound leave while it is made: as bytes of the file, or as events. Left out, the answer is the finished
    file, with its C2PA manifest in it."""
    purpose: Purpose = Purpose.GENERAL
    language: Language | None = None
    territory: Territory | None = None
    commercial: Commercial = False
    seed: Seed | None = None

    def request(self) -> dict[str, object]:
        """What the worker is asked."""
        asked: dict[str, object] = {"text": self.input, "format": self.response_format}
        asked |= {"language": self.language, "seed": self.seed, "speed": None if self.speed == 1.0 else self.speed}
        return {name: value for name, value in asked.items() if value is not None}


@router.post("/speech", response_class=Response, responses=STREAMED)
async def speak(
    body: SpeechBody,
    request: Request,
    caller: Annotated[Caller, allowed(Scope.SPEECH)],
    here: Here,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Say a text in a voice, for a purpose that its speaker has consented to."""
    require_supported(body)
    submission = submission_of(body, caller, idempotency_key)
    if body.stream_format is None:
        return await sound_answer(request, here, caller, submission, prefer)
    return await stream_answer(request, here, caller, submission, prefer, body.stream_format)


def require_supported(body: SpeechBody) -> None:
    """Refuse what OpenAI's fields can ask for and no model here can do; raises `Problem` (400)."""
    if body.instructions:
        raise Problem(400, "instructions_not_supported", "This model takes no instructions.", field="instructions")


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
        territory=body.territory,
        commercial=body.commercial,
        format=body.response_format,
        idempotency_key=idempotency_key,
    )

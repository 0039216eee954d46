"""`/v1/batches`: up to 100 requests for speech or conversion at once, each on its own merits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Base64Bytes, BaseModel, Field

from vivavoce.api.batching import fill, open_batch, read_batch
from vivavoce.api.flow import IdempotencyKey
from vivavoce.api.gate import Caller, allowed, charge
from vivavoce.api.problems import Problem
from vivavoce.api.routes.speech import SpeechBody, require_supported, submission_of
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services
from vivavoce.api.shapes import Body, Commercial, Failure, Language, Seed, Territory
from vivavoce.consent import Purpose
from vivavoce.ledger.batches import BatchItem
from vivavoce.ledger.tables import Job, JobKind, JobStatus
from vivavoce.policy.requests import Submission
from vivavoce.sound import Format

router = APIRouter(prefix="/v1/batches", tags=["batches"])

MOST_REQUESTS = 100

CustomId = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="Your own name for it.")]


class SpeechItem(SpeechBody):
    """A request for speech, as `/v1/audio/speech` takes it."""

    type: Literal["speech"]
    custom_id: CustomId = None

    def submission(self, caller: Caller) -> Submission:
        """Put it as admission takes it; raises `Problem`."""
        require_supported(self)
        if self.stream_format == "sse":
            detail = "The sounds of a batch are fetched when they are done; stream_format must be audio."
            raise Problem(400, "stream_format_not_supported", detail, field="stream_format")
        return submission_of(self, caller, None)


class ConversionItem(Body):
    """A request for a conversion."""

    type: Literal["conversion"]
    custom_id: CustomId = None
    voice: str
    audio: Base64Bytes
    """The recording, a sound file in base 64."""
    response_format: Format = "mp3"
    purpose: Purpose = Purpose.GENERAL
    language: Language | None = None
    territory: Territory | None = None
    commercial: Commercial = False
    seed: Seed | None = None

    def submission(self, caller: Caller) -> Submission:
        """Put it as admission takes it."""
        return Submission(
            tenant_id=caller.tenant_id,
            api_key_id=caller.key_id,
            kind=JobKind.CONVERSION,
            request={"format": self.response_format} | ({} if self.seed is None else {"seed": self.seed}),
            voice_id=self.voice,
            purpose=self.purpose,
            language=self.language,
            territory=self.territory,
            commercial=self.commercial,
            input=self.audio,
            format=self.response_format,
        )


class NewBatch(Body):
    """What is asked for at once."""

    requests: Annotated[
        list[Annotated[SpeechItem | ConversionItem, Field(discriminator="type")]],
        Field(min_length=1, max_length=MOST_REQUESTS),
    ]


class BatchItemView(BaseModel):
    """What became of one request."""

    custom_id: str | None
    status: JobStatus
    """`refused` also where it never became a job."""
    job: str | None
    output: str | None
    """Id of the sound; its bytes are at `/v1/jobs/{job}/output`."""
    error: Failure | None


class BatchView(BaseModel):
    """A batch."""

    object: Literal["batch"] = "batch"
    id: str
    created_at: datetime
    size: int
    ended: bool
    """Whether every request was taken up and has ended."""
    counts: dict[JobStatus, int]
    data: list[BatchItemView]
    """In the order of the request."""


@router.post("", status_code=202)
def create(
    body: NewBatch,
    request: Request,
    caller: Annotated[Caller, allowed(Scope.JOBS_READ)],
    here: Here,
    idempotency_key: IdempotencyKey = None,
) -> BatchView:
    """Ask for many sounds at once. Each request needs its own scope, consent and words, and counts for the limits.

    One that is refused stops none of the others.
    """
    charge(request, len(body.requests) - 1)
    batch = open_batch(here, caller, body.model_dump_json().encode(), len(body.requests), idempotency_key)
    fill(here, caller, batch, ((item.custom_id, _submission(item, caller)) for item in body.requests))
    return _view(here, caller, batch.id)


@router.get("/{batch_id}")
def read(batch_id: str, caller: Annotated[Caller, allowed(Scope.JOBS_READ)], here: Here) -> BatchView:
    """Read a batch and what has become of its requests."""
    return _view(here, caller, batch_id)


def _submission(item: SpeechItem | ConversionItem, caller: Caller) -> Submission | Problem:
    try:
        return item.submission(caller)
    except Problem as problem:
        return problem


def _view(here: Services, caller: Caller, batch_id: str) -> BatchView:
    batch, rows = read_batch(here, caller, batch_id)
    items = [_item(*row) for row in rows]
    statuses = [item.status for item in items]
    return BatchView(
        id=batch.id,
        created_at=batch.created_at,
        size=batch.size,
        ended=len(items) == batch.size and all(status.final for status in statuses),
        counts={status: statuses.count(status) for status in JobStatus if status in statuses},
        data=items,
    )


def _item(item: BatchItem, job: Job | None, output_id: str | None) -> BatchItemView:
    code, detail = (item.error_code, item.error_detail) if job is None else (job.error_code, job.error_detail)
    return BatchItemView(
        custom_id=item.custom_id,
        status=JobStatus.REFUSED if job is None else JobStatus(job.status),
        job=item.job_id,
        output=output_id,
        error=None if code is None else Failure(code=code, detail=detail),
    )

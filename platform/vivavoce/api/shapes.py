"""What the routes take and give, as JSON. OpenAI's fields where there are any, with ours beside them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vivavoce.ledger.queue import Outlook
from vivavoce.ledger.tables import Consent, Job, JobKind, JobStage, JobStatus, Operation, Voice
from vivavoce.sound import Format

Item = TypeVar("Item", bound=BaseModel)

After = Annotated[str | None, Query(pattern=r"^[a-z]{2,6}_[0-9a-z]{26}$", description="Id of the last item seen.")]
Limit = Annotated[int, Query(ge=1, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="The same seed and request give the same sound.")]
Language = Annotated[str, Field(pattern=r"^[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8}){0,3}$", description="BCP 47 tag.")]
Territory = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 code of where it will be used.")]
Commercial = Annotated[bool, Field(description="Whether it will earn money.")]
OutputFormat = Annotated[
    Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "wav_24000", "pcm_24000"],
    Query(description="Ours, or ElevenLabs' names of those that are exactly what is made here: 24 kHz."),
]


class Body(BaseModel):
    """A request's body. A field that is not known is an error: a misspelt `purposes` must not mean the default."""

    model_config = ConfigDict(extra="forbid")


class FormBody(Body):
    """A multipart body. Clients spell a list `name` or `name[]`."""

    @model_validator(mode="before")
    @classmethod
    def _unbracket(cls, fields: dict[str, Any]) -> dict[str, Any]:
        listed = {name[:-2]: fields[name] for name in fields if name.endswith("[]")}
        plain = {name: value for name, value in fields.items() if not name.endswith("[]")}
        return plain | {name: value if isinstance(value, list) else [value] for name, value in listed.items()}


class Page(BaseModel, Generic[Item]):
    """One page of a list, newest first; `after=last_id` gives the next."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ConsentView(BaseModel):
    """A consent as its tenant sees it."""

    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    id: str
    created_at: int
    """Unix seconds."""
    name: str | None
    """The speaker's name; null once they have been erased."""
    language: str
    status: str
    assurance: str
    operations: list[Operation]
    purposes: list[str]
    languages: list[str]
    territory: list[str]
    commercial: bool
    valid_from: datetime
    expires_at: datetime
    revoked_at: datetime | None


class VoiceView(BaseModel):
    """A voice as its tenant sees it."""

    object: Literal["audio.voice"] = "audio.voice"
    id: str
    created_at: int
    """Unix seconds."""
    name: str
    type: Literal["audio_sample"] = "audio_sample"
    consent: str
    standing: str
    """`checking` until its first use, when its speaker is compared; then `ready`, `review` or `refused`."""


class Deleted(BaseModel):
    """Confirms a deletion, or a withdrawal."""

    id: str
    object: str
    deleted: Literal[True] = True


class Failure(BaseModel):
    """Why a job gave nothing."""

    code: str
    detail: str | None


class SegmentView(BaseModel):
    """A stretch of sound that carries the mark."""

    start_s: float
    end_s: float


class ResolutionView(BaseModel):
    """The caller's own output that a mark names."""

    output: str
    job: str
    voice: str
    consent: str
    receipt: str
    """Address of the proof that the log knows this output."""
    false_attribution: float
    """Bound on the probability that the mark of another output is taken for this one's."""


class CandidateView(BaseModel):
    """An output of the caller's own that a mark may, and may not, be of."""

    output: str
    false_attribution: float


class ManifestView(BaseModel):
    """What the C2PA manifest in a file says. A manifest is easily taken off; the mark is the other layer."""

    state: Literal["none", "valid", "invalid", "untrusted"]
    """`valid`: signed by us, and not a byte has changed since. `invalid`: changed, broken, or another file's."""
    reason: str
    """Why it is not valid; else empty."""
    problems: list[str]
    """Failure codes of the C2PA specification."""
    generated: bool
    """Whether the manifest says that an algorithm made the sound, whoever signed it."""
    signer: str | None
    """As the signer's certificate has it; anybody's own words unless the state is `valid`."""
    created_at: str | None
    names_the_mark: bool | None
    """Whether the manifest is that of the mark in the sound; null where one of the two is missing."""


class DetectionView(BaseModel):
    """Whether a sound carries our mark. Of other tenants' outputs nothing is told."""

    verdict: Literal["ours", "ours_modified", "not_detected", "inconclusive"]
    reason: str
    """Why it is not simply ours, or not detected; else empty."""
    score: float
    """-log10 of a bound on the probability that an unmarked sound would look like this."""
    threshold: float
    """The score from which on a mark counts as found."""
    segments: list[SegmentView]
    speed: float
    """How many times faster than it was made the sound goes."""
    pitch: float
    """How many times higher than it was made it is."""
    seconds: float
    model_id: str
    c2pa: ManifestView | None
    """Null for detections from before manifests were read."""
    resolution: ResolutionView | None
    candidates: list[CandidateView]
    """Where nobody is named: the likeliest outputs, likeliest first. A hint, never a finding."""


class JobView(BaseModel):
    """A job as its tenant sees it."""

    object: Literal["job"] = "job"
    id: str
    kind: JobKind
    status: JobStatus
    voice: str | None
    consent: str | None
    purpose: str | None
    format: str | None
    attempts: int
    stage: JobStage | None
    """How far the worker has come with a running job."""
    queue_position: int | None
    """Place among the jobs that wait, 1 for the next; none once begun."""
    estimated_seconds: float | None
    """Until the job's end, judged by jobs that were finished lately; none before there are any."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Failure | None
    output: str | None
    """Id of the sound; its bytes are at `/v1/jobs/{id}/output`."""
    detection: DetectionView | None


def plain_format(asked: str) -> Format:
    """Give our own name of a format that was asked for in ElevenLabs' words."""
    return cast("Format", asked.removesuffix("_24000"))


def page(items: Sequence[Item], limit: int, ids: Sequence[str]) -> Page[Item]:
    """Make a page of at most `limit` items from one more than that."""
    shown = list(ids[:limit])
    return Page[Any](
        data=list(items[:limit]),
        has_more=len(items) > limit,
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
    )


def consent_view(consent: Consent, status: str, name: str | None) -> ConsentView:
    """Show a consent."""
    same = ("id", "language", "assurance", "operations", "purposes", "languages", "territory", "commercial")
    times = ("valid_from", "expires_at", "revoked_at")
    fields = {field: getattr(consent, field) for field in same + times}
    return ConsentView(**fields, status=status, name=name, created_at=int(consent.created_at.timestamp()))


def voice_view(voice: Voice) -> VoiceView:
    """Show a voice."""
    created = int(voice.created_at.timestamp())
    return VoiceView(
        id=voice.id, name=voice.name, consent=voice.consent_id, standing=voice.standing, created_at=created
    )


def job_view(job: Job, outlook: Outlook, detection: DetectionView | None, output_id: str | None) -> JobView:
    """Show a job.

    Args:
        outlook: What its tenant can expect.
        detection: What a detection found, as its caller may see it.
        output_id: The sound that the job made.
    """
    failure = None if job.error_code is None else Failure(code=job.error_code, detail=job.error_detail)
    return JobView(
        id=job.id,
        kind=JobKind(job.kind),
        status=JobStatus(job.status),
        voice=job.voice_id,
        consent=job.consent_id,
        purpose=job.purpose,
        format=job.format,
        attempts=job.attempt,
        stage=None if job.stage is None else JobStage(job.stage),
        queue_position=outlook.position,
        estimated_seconds=outlook.seconds,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=failure,
        output=output_id,
        detection=detection,
    )

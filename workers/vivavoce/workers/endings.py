"""How an attempt at a job ends when it does not succeed: one table from errors to what the job's owner is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from sqlalchemy.orm import Session

from vivavoce.audit.log import Log
from vivavoce.consent.errors import ConsentRefused, GrantRefused
from vivavoce.ledger.errors import Erased, ObjectMissing, SealBroken
from vivavoce.ledger.lease import Lease
from vivavoce.ledger.tables import JobStatus
from vivavoce.model.errors import ModelError
from vivavoce.policy.errors import PolicyRefused
from vivavoce.provenance import ProvenanceError
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.outcome import finish
from vivavoce.sound import SoundError
from vivavoce.verification.errors import VerifierMissing
from vivavoce.watermark import MarkError


class Again(Enum):
    """Whether and when another attempt may end better."""

    NEVER = auto()
    AT_ONCE = auto()
    LATER = auto()
    """Something that jobs depend on is away: the reaper rings for the job at its next look."""


@dataclass(frozen=True)
class Ending:
    """A job's end, or the end it comes to once its attempts are used up."""

    status: JobStatus
    code: str
    detail: str
    again: Again


def end_job(session: Session, log: Log, lease: Lease | None, job_id: str, end: Ending, now: datetime) -> bool:
    """Write an ending down, if nobody was first."""
    return finish(session, log, lease, job_id, end.status, error_code=end.code, error_detail=end.detail, now=now)


def ending(error: Exception) -> Ending:
    """Say how an error ends a job. Details of unforeseen errors are kept from the job: they may quote anything."""
    match error:
        case ReleaseRefused(code="mark_not_found" | "mark_identity_taken"):
            # A mark's identity follows from the output's id: the next attempt draws another, which may do better.
            return Ending(JobStatus.REFUSED, error.code, error.detail, Again.AT_ONCE)
        case ReleaseRefused(code="stream_interrupted"):
            return Ending(JobStatus.FAILED, error.code, error.detail, Again.NEVER)
        case ConsentRefused() | GrantRefused() | ReleaseRefused() | PolicyRefused():
            return Ending(JobStatus.REFUSED, error.code, error.detail, Again.NEVER)
        case Erased():
            return Ending(JobStatus.REFUSED, "consent_erased", "the speaker's data was erased", Again.NEVER)
        case SoundError():
            return Ending(JobStatus.FAILED, error.code, error.detail, Again.NEVER)
        case ObjectMissing() | SealBroken():
            return Ending(JobStatus.FAILED, "input_unreadable", "stored input is missing or damaged", Again.NEVER)
        case ModelError():
            return Ending(JobStatus.FAILED, "model_error", str(error), Again.AT_ONCE)
        case VerifierMissing():
            return Ending(JobStatus.FAILED, "verifier_missing", str(error), Again.NEVER)
        case ProvenanceError():
            return Ending(JobStatus.FAILED, "signing_failed", "the sound could not be signed", Again.LATER)
        case MarkError():
            return Ending(JobStatus.REFUSED, f"mark_{error.code}", error.detail, Again.NEVER)
    return Ending(JobStatus.FAILED, "internal_error", "the job could not be carried out", Again.LATER)


EXHAUSTED = Ending(JobStatus.FAILED, "attempts_exhausted", "every worker that began this job was lost", Again.NEVER)

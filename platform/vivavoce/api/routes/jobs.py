"""`/v1/jobs`: follow a job, fetch its sound, cancel it, try it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select

from vivavoce.api import serving
from vivavoce.api.flow import IdempotencyKey, accepted, submit
from vivavoce.api.gate import Caller, allowed, require_scope
from vivavoce.api.problems import Problem, job_problem
from vivavoce.api.registry import detection_view, find_job
from vivavoce.api.routes.speech import SOUND
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import JobView, job_view
from vivavoce.consent.errors import GrantRefused
from vivavoce.ledger.errors import Erased, ObjectMissing, SealBroken
from vivavoce.ledger.queue import outlook
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Output
from vivavoce.policy.admission import again
from vivavoce.release.outcome import cancel

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Reader = Annotated[Caller, allowed(Scope.JOBS_READ)]

_SCOPES = {
    JobKind.SPEECH: Scope.SPEECH,
    JobKind.CONVERSION: Scope.CONVERSION,
    JobKind.DETECTION: Scope.DETECT,
    JobKind.VERIFICATION: Scope.CONSENTS_WRITE,
}


@router.get("/{job_id}")
def read(job_id: str, caller: Reader, here: Here) -> JobView:
    """Read a job."""
    return _view(here, caller, job_id)


@router.get("/{job_id}/output", response_class=Response, responses=SOUND)
def fetch(job_id: str, request: Request, caller: Reader, here: Here) -> Response:
    """Fetch the sound that a job made. Consent is asked once more, and the delivery is logged."""
    with here.database.read() as session:
        job = find_job(session, caller, job_id)
    if job.kind in (JobKind.DETECTION, JobKind.VERIFICATION):
        raise Problem(404, "unknown_output", f"A {job.kind} makes no sound.")
    if not JobStatus(job.status).final:
        raise Problem(409, "job_not_finished", f"The job is {job.status}.")
    if job.status != JobStatus.SUCCEEDED:
        raise job_problem(request, job.status, job.error_code, job.error_detail)
    return serving.serve(here, caller, job)


@router.post("/{job_id}/cancel")
@router.delete("/{job_id}")
def end(job_id: str, caller: Reader, here: Here) -> JobView:
    """Cancel a job, queued or running: nothing of it is delivered. Needs the scope of the job's kind too."""
    _require_maker(here, caller, job_id)
    with here.database.write() as session:
        ended = cancel(session, here.log, job_id, actor=caller.key_id, now=now())
    if not ended:
        raise Problem(409, "job_not_cancellable", "The job has ended already.")
    return _view(here, caller, job_id)


@router.post("/{job_id}/retry", response_model=JobView, status_code=202)
def retry(job_id: str, caller: Reader, here: Here, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Ask for a failed job's work once more, as a new job: consent and rules are asked anew, under today's.

    A refused job is never tried again. Needs the scope of the job's kind too.
    """
    job = _require_maker(here, caller, job_id)
    try:
        with here.database.read() as session:
            submission = again(session, here.keyring, here.store, job, caller.key_id)
    except (Erased, SealBroken, ObjectMissing, GrantRefused) as error:
        raise Problem(409, "request_gone", "What the job was asked for cannot be read any more.") from error
    return accepted(here, submit(here, replace(submission, idempotency_key=idempotency_key)))


def _require_maker(here: Services, caller: Caller, job_id: str) -> Job:
    """Read a job of the caller's tenant that its key could have asked for; raises `Problem` (404, 403)."""
    with here.database.read() as session:
        job = find_job(session, caller, job_id)
    require_scope(here, caller, _SCOPES[JobKind(job.kind)])
    return job


def _view(here: Services, caller: Caller, job_id: str) -> JobView:
    with here.database.read() as session:
        job: Job = find_job(session, caller, job_id)
        output_id = session.scalars(select(Output.id).where(Output.job_id == job.id)).one_or_none()
        expected = outlook(session, job, now())
    found = job.result if job.kind == JobKind.DETECTION else None
    detection = None if found is None else detection_view(here, caller, found)
    return job_view(job, expected, detection, output_id)

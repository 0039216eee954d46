"""`/v1/jobs`: follow a job, fetch its sound, cancel it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from vivavoce.api import serving
from vivavoce.api.gate import Caller, allowed, require_scope
from vivavoce.api.problems import Problem, job_problem
from vivavoce.api.registry import detection_view, find_job
from vivavoce.api.routes.speech import SOUND
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import JobView, job_view
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Output
from vivavoce.release.outcome import finish

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Reader = Annotated[Caller, allowed(Scope.JOBS_READ)]

_SCOPES = {
    JobKind.SPEECH: Scope.SPEECH,
    JobKind.CONVERSION: Scope.CONVERSION,
    JobKind.DETECTION: Scope.DETECT,
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
    if job.kind == JobKind.DETECTION:
        raise Problem(404, "unknown_output", "A detection makes no sound.")
    if not JobStatus(job.status).final:
        raise Problem(409, "job_not_finished", f"The job is {job.status}.")
    if job.status != JobStatus.SUCCEEDED:
        raise job_problem(request, job.status, job.error_code, job.error_detail)
    return serving.serve(here, caller, job)


@router.delete("/{job_id}")
def cancel(job_id: str, caller: Reader, here: Here) -> JobView:
    """Cancel a job that no worker has begun. Needs the scope of the job's kind too."""
    with here.database.read() as session:
        job = find_job(session, caller, job_id)
    require_scope(here, caller, _SCOPES[JobKind(job.kind)])
    with here.database.write() as session:
        ended = finish(
            session,
            here.log,
            None,
            job.id,
            JobStatus.CANCELLED,
            error_code="cancelled",
            error_detail="cancelled by the tenant",
            actor=caller.key_id,
            now=now(),
        )
    if not ended:
        raise Problem(409, "job_not_cancellable", "The job has begun, or has ended already.")
    return _view(here, caller, job_id)


def _view(here: Services, caller: Caller, job_id: str) -> JobView:
    with here.database.read() as session:
        job: Job = find_job(session, caller, job_id)
        output_id = session.scalars(select(Output.id).where(Output.job_id == job.id)).one_or_none()
    detection = None if job.result is None else detection_view(here, caller, job.result)
    return job_view(job, detection, output_id)

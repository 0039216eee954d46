"""`/v1/watermark/detect`: does a sound come from here?"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from vivavoce.api.flow import IdempotencyKey, Prefer, accepted, finished, submit, wants_job, with_input
from vivavoce.api.gate import Caller, allowed
from vivavoce.api.problems import job_problem
from vivavoce.api.registry import detection_view
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.api.shapes import DetectionView, FormBody
from vivavoce.ledger.tables import JobKind, JobStatus
from vivavoce.policy.requests import Submission
from vivavoce.sound import MIN_MARKED_SECONDS

router = APIRouter(prefix="/v1/watermark", tags=["detection"])


class DetectionForm(FormBody):
    """The sound in question."""

    file: UploadFile


@router.post("/detect", response_model=DetectionView, responses={202: {"description": "The job."}})
async def detect(
    form: Annotated[DetectionForm, Form(media_type="multipart/form-data")],
    request: Request,
    caller: Annotated[Caller, allowed(Scope.DETECT)],
    here: Here,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Look for our mark in a sound, and name the output that it is of if that is the caller's own."""
    submission = Submission(
        tenant_id=caller.tenant_id,
        api_key_id=caller.key_id,
        kind=JobKind.DETECTION,
        request={},
        idempotency_key=idempotency_key,
    )
    submission = await run_in_threadpool(with_input, here, submission, form.file, MIN_MARKED_SECONDS)
    job = await run_in_threadpool(submit, here, submission)
    if wants_job(prefer):
        return await run_in_threadpool(accepted, here, job)
    job = await finished(here, job.id)
    if job.status != JobStatus.SUCCEEDED or job.result is None:
        raise job_problem(request, job.status, job.error_code, job.error_detail)
    view = await run_in_threadpool(detection_view, here, caller, job.result)
    return JSONResponse(view.model_dump(mode="json"), headers={"X-Vivavoce-Job-Id": job.id})

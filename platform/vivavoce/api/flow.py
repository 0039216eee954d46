"""From a request to its job: admit, commit, ring, wait. What the job-making routes have in common."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated

import structlog
from fastapi import Header, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from vivavoce.api import serving
from vivavoce.api.gate import Caller
from vivavoce.api.problems import Problem, job_problem
from vivavoce.api.services import Services, now
from vivavoce.api.shapes import job_view
from vivavoce.consent.errors import ConsentRefused
from vivavoce.ledger.queue import outlook
from vivavoce.ledger.tables import Job, JobStatus
from vivavoce.ledger.tracing import SpanKind, job_attributes, span
from vivavoce.policy.admission import Submission, admit, refuse
from vivavoce.policy.errors import PolicyRefused
from vivavoce.sound import Sound, SoundError, decode, require_speech
from vivavoce.workers.tasknames import ring

IdempotencyKey = Annotated[str | None, Header(description="The same key and body give the same job, made once.")]
Prefer = Annotated[str | None, Header(description="`respond-async`: answer 202 with the job at once (RFC 7240).")]

_log = structlog.get_logger("vivavoce.api")

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.25


def submit(services: Services, submission: Submission) -> Job:
    """Let a request in and tell the workers; a refusal is logged in a transaction of its own.

    Raises:
        ConsentRefused, PolicyRefused: It is not let in.
        LogUnavailable: Nothing was done.
    """
    with span("job.submit", kind=SpanKind.PRODUCER) as traced:
        try:
            with services.database.write() as session:
                job = admit(session, services.log, services.keyring, services.store, submission, now())
        except (ConsentRefused, PolicyRefused) as refusal:
            _log_refusal(services, submission, refusal.code)
            raise
        traced.set_attributes(job_attributes(job))
        _log.info("job_admitted", job_id=job.id, leaf=job.intent_leaf)
        if job.status == JobStatus.QUEUED:
            ring(services.bell, job.id)
    return job


def with_input(services: Services, submission: Submission, upload: UploadFile, min_seconds: float) -> Submission:
    """Put an uploaded sound into a request; one that cannot be taken is refused and logged like any other request.

    Raises:
        SoundError: Not readable as sound, too long, too short or silent.
        LogUnavailable: The refusal cannot be logged.
    """
    data = upload.file.read()
    checked_sound(services, submission, data, min_seconds, services.settings.max_upload_seconds)
    return replace(submission, input=data)


def checked_sound(
    services: Services, submission: Submission, data: bytes, min_seconds: float, max_seconds: float
) -> Sound:
    """Decode an uploaded sound; raises as `with_input`."""
    try:
        sound = decode(data, max_seconds=max_seconds)
        require_speech(sound, min_seconds)
    except SoundError as refusal:
        _log_refusal(services, submission, refusal.code)
        raise
    return sound


async def finished(services: Services, job_id: str) -> Job:
    """Wait until a job has ended, at most the settings' time. No database session is held between two looks.

    Raises:
        Problem: 504, it goes on; its address is in the answer's `Location`.
    """
    deadline = time.monotonic() + services.settings.wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        job = await run_in_threadpool(_look, services, job_id)
        if JobStatus(job.status).final:
            return job
        if time.monotonic() >= deadline:
            # The openai client would otherwise send the request, and make the job, again.
            headers = {"Location": f"/v1/jobs/{job_id}", "X-Vivavoce-Job-Id": job_id, "x-should-retry": "false"}
            raise Problem(504, "job_not_finished", f"The job goes on: see /v1/jobs/{job_id}.", headers=headers)
        await asyncio.sleep(pause)
        pause = min(1.3 * pause, _LONGEST_PAUSE_SECONDS)


async def sound_answer(
    request: Request, services: Services, caller: Caller, submission: Submission, prefer: str | None
) -> Response:
    """Make a sound and answer with it, or at once with the job if the caller prefers."""
    job = await run_in_threadpool(submit, services, submission)
    if wants_job(prefer):
        return await run_in_threadpool(accepted, services, job)
    job = await finished(services, job.id)
    if job.status != JobStatus.SUCCEEDED:
        raise job_problem(request, job.status, job.error_code, job.error_detail)
    return await run_in_threadpool(serving.serve, services, caller, job)


def wants_job(prefer: str | None) -> bool:
    """Whether the caller would rather have the job than wait (RFC 7240 section 4.1)."""
    return any(part.strip().lower() == "respond-async" for part in (prefer or "").replace(";", ",").split(","))


def accepted(services: Services, job: Job) -> JSONResponse:
    """Answer 202 with a job and its address."""
    with services.database.read() as session:
        expected = outlook(session, job, now())
    headers = {"Location": f"/v1/jobs/{job.id}", "X-Vivavoce-Job-Id": job.id, "Preference-Applied": "respond-async"}
    return JSONResponse(job_view(job, expected, None, None).model_dump(mode="json"), 202, headers)


def _log_refusal(services: Services, submission: Submission, code: str) -> None:
    with services.database.write() as session:
        refuse(session, services.log, services.keyring, submission, code, now())


def _look(services: Services, job_id: str) -> Job:
    with services.database.read() as session:
        return session.get_one(Job, job_id)

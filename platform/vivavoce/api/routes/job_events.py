"""`/v1/jobs/{id}/events`: a job's life as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sqlalchemy import select

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.registry import find_job
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import Failure
from vivavoce.ledger.queue import outlook
from vivavoce.ledger.tables import Job, JobKind, JobStage, JobStatus, Output

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_PAUSE_SECONDS = 0.25
_RECONNECT_MS = 1000


class JobEvent(BaseModel):
    """What is true of a job from this event on."""

    job: str
    kind: JobKind
    status: JobStatus
    attempts: int
    stage: JobStage | None
    """How far the worker has come with a running speech or conversion job."""
    queue_position: int | None
    """Place among the jobs that wait, 1 for the next; none once begun."""
    estimated_seconds: float | None
    """Until the job's end, judged by jobs that were finished lately; none before there are any."""
    error: Failure | None
    output: str | None
    """Id of the sound; its bytes are at `/v1/jobs/{id}/output`."""


def _followed(job_id: str, caller: Annotated[Caller, allowed(Scope.JOBS_READ)], here: Here) -> str:
    """Find the job before the answer begins: an event stream has no status of its own to refuse with."""
    with here.database.read() as session:
        return find_job(session, caller, job_id).id


# door: sends the fields of JobEvent, which hold no sound
@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def follow(
    job_id: Annotated[str, Depends(_followed)],
    here: Here,
    last_event_id: Annotated[str | None, Header(description="Id of the last event that was heard.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job: an event `state` for what it is now and whenever that or its place in the queue changes, until it
    has ended.

    A stream lasts as long as a request may wait; who reconnects with `Last-Event-ID`, as browsers do, misses nothing
    that still holds and hears nothing twice but the end.
    """
    heard, deadline = last_event_id, time.monotonic() + here.settings.wait_seconds
    position: int | None = None
    while True:
        event = await run_in_threadpool(_look, here, job_id)
        place = f"{event.attempts}-{event.status}" + (f"-{event.stage}" if event.stage else "")
        moved = position is not None and event.queue_position != position
        if place != heard or moved or event.status.final:
            yield ServerSentEvent(data=event, event="state", id=place, retry=_RECONNECT_MS)
            heard = place
        position = event.queue_position
        if event.status.final or time.monotonic() >= deadline:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


def _look(services: Services, job_id: str) -> JobEvent:
    with services.database.read() as session:
        job = session.get_one(Job, job_id)
        output_id = session.scalars(select(Output.id).where(Output.job_id == job_id)).one_or_none()
        expected = outlook(session, job, now())
    return JobEvent(
        job=job.id,
        kind=JobKind(job.kind),
        status=JobStatus(job.status),
        attempts=job.attempt,
        stage=None if job.stage is None else JobStage(job.stage),
        queue_position=expected.position,
        estimated_seconds=expected.seconds,
        error=None if job.error_code is None else Failure(code=job.error_code, detail=job.error_detail),
        output=output_id,
    )

"""Sound that is served while it is made: chunks of `vivavoce.release.stream` become an answer, and nothing else.

Whoever listens looks for the next chunk every 50 ms, in a transaction that reads; only where one lies there, one that
writes takes it. What is wrong before the first chunk is an ordinary problem. Later on the answer breaks off: an event
says why, or the connection ends without the end of the body, so that no client can take a part for the whole.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
import structlog
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select

from vivavoce.api import serving
from vivavoce.api.flow import finished, sound_answer, submit, wants_job
from vivavoce.api.gate import Caller
from vivavoce.api.problems import Problem, job_problem
from vivavoce.api.services import Services, now
from vivavoce.ledger.streams import OutputChunk
from vivavoce.ledger.tables import Consent, Job, JobStatus
from vivavoce.policy.admission import Submission
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.outcome import cancel
from vivavoce.release.stream import ReleasedChunk, has_more, stream_of, take

StreamFormat = Literal["audio", "sse"]
EVENTS = "text/event-stream"

_PAUSE_SECONDS = 0.05
_log = structlog.get_logger("vivavoce.api")


class BrokenOff(Exception):
    """A sound ended before its end, after some of it was served. The server closes the connection on it."""


async def stream_answer(
    request: Request,
    services: Services,
    caller: Caller,
    submission: Submission,
    prefer: str | None,
    kind: StreamFormat,
) -> Response:
    """Make a sound and answer with it while it is made, or at once with the job if the caller prefers.

    Raises:
        Problem: There is no first chunk; the code says why.
        ReleaseRefused: It may not be served.
    """
    if wants_job(prefer):
        return await sound_answer(request, services, caller, submission, prefer)
    asked = replace(submission, request=submission.request | {"stream": True})
    job = await run_in_threadpool(submit, services, asked)
    listener = _Listener(request, services, caller, job.id)
    try:
        first = await listener.following()
    except BaseException:
        await listener.hang_up()
        raise
    if not first:  # asked for again, by its idempotency key, when the chunks are gone
        job = await finished(services, job.id)
        return await run_in_threadpool(serving.serve, services, caller, job)
    assurance = await run_in_threadpool(_assurance, services, job.id)
    return _answer(first, listener, kind, assurance, len(str(submission.request.get("text", ""))))


def _answer(
    first: list[ReleasedChunk], listener: _Listener, kind: StreamFormat, assurance: str, characters: int
) -> Response:
    headers = {
        "X-Vivavoce-Output-Id": first[0].output_id,
        "X-Vivavoce-Job-Id": listener.job_id,
        "X-Vivavoce-Assurance": assurance,
        # A withdrawn consent must not be outlived by a cache; nor may a proxy wait for the whole.
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    if kind == "sse":
        return StreamingResponse(_events(first, listener, characters), media_type=EVENTS, headers=headers)
    return StreamingResponse(_sound(first, listener), media_type=first[0].media_type, headers=headers)


async def _sound(first: list[ReleasedChunk], listener: _Listener) -> AsyncIterator[bytes]:
    try:
        chunks = first
        while chunks:
            for chunk in chunks:
                yield chunk.data
            chunks = await listener.following()
    except (Problem, ReleaseRefused) as error:
        raise BrokenOff(error.code) from error
    finally:
        await listener.hang_up()


async def _events(first: list[ReleasedChunk], listener: _Listener, characters: int) -> AsyncIterator[bytes]:
    """OpenAI's events: `speech.audio.delta` for each chunk, and `speech.audio.done`, or an error."""
    try:
        chunks = first
        while chunks:
            for chunk in chunks:
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(chunk.data).decode()})
            chunks = await listener.following()
        seconds = await listener.seconds()
        usage = {"input_tokens": characters, "output_tokens": seconds, "total_tokens": characters + seconds}
        yield _event({"type": "speech.audio.done", "usage": usage})
    except (Problem, ReleaseRefused) as error:
        kind = "server_error" if isinstance(error, Problem) and error.status_code >= 500 else "invalid_request_error"
        said = {"message": error.detail, "type": kind, "param": None, "code": error.code}
        yield _event({"type": "error", "error": said})
    finally:
        await listener.hang_up()


def _event(content: dict[str, Any]) -> bytes:
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


@dataclass
class _Listener:
    """Somebody who waits for the chunks of a job; when they go away, the job is cancelled."""

    request: Request
    services: Services
    caller: Caller
    job_id: str
    _last: int = -1
    _over: bool = False

    async def following(self) -> list[ReleasedChunk]:
        """Wait for the next chunks; none at the end of the sound.

        Raises:
            Problem: The job ended otherwise (its own code), or nothing came for as long as a request may wait (504).
            ReleaseRefused: The chunks may no longer be handed out.
        """
        deadline = time.monotonic() + self.services.settings.wait_seconds
        while True:
            job, more = await run_in_threadpool(self._look)
            if more:
                chunks = await run_in_threadpool(self._take)
                self._last = chunks[-1].number
                return chunks
            if JobStatus(job.status).final:
                self._over = True
                if job.status == JobStatus.SUCCEEDED:
                    return []
                raise job_problem(self.request, job.status, job.error_code, job.error_detail)
            if time.monotonic() >= deadline or await self.request.is_disconnected():
                headers = {"X-Vivavoce-Job-Id": self.job_id, "x-should-retry": "false"}
                raise Problem(504, "stream_not_ready", "Nothing came in time; the job is cancelled.", headers=headers)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def hang_up(self) -> None:
        """Cancel the job, unless it has ended: nobody would hear the rest."""
        if self._over:
            return
        self._over = True
        with anyio.CancelScope(shield=True):  # who went away has cancelled this very task
            await run_in_threadpool(self._cancel)

    async def seconds(self) -> int:
        """Sound in all chunks, in seconds begun."""
        return await run_in_threadpool(self._seconds)

    def _look(self) -> tuple[Job, bool]:
        with self.services.database.read() as session:
            stream = stream_of(session, self.job_id)
            more = stream is not None and has_more(session, stream, self._last)
            return session.get_one(Job, self.job_id), more

    def _take(self) -> list[ReleasedChunk]:
        here, caller = self.services, self.caller
        with here.database.write() as session:
            return take(
                session, here.log, here.keyring, self.job_id, caller.tenant_id, self._last, now(), actor=caller.key_id
            )

    def _cancel(self) -> None:
        with self.services.database.write() as session:
            if cancel(session, self.services.log, self.job_id, actor=self.caller.key_id, now=now()):
                _log.info("job_cancelled", job_id=self.job_id, chunks=self._last + 1)

    def _seconds(self) -> int:
        with self.services.database.read() as session:
            stream = stream_of(session, self.job_id)
            of_it = select(func.sum(OutputChunk.seconds)).where(OutputChunk.stream_id == stream.id) if stream else None
            return 0 if of_it is None else -int(-(session.scalar(of_it) or 0.0) // 1)


def _assurance(services: Services, job_id: str) -> str:
    with services.database.read() as session:
        return session.get_one(Consent, session.get_one(Job, job_id).consent_id).assurance

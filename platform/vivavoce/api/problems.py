"""Errors as answers: problem+json (RFC 9457), or OpenAI's shape on the OpenAI-compatible routes.

No answer repeats what was sent: an echo can leak a secret into a log, or break the encoding of the answer itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, get_args

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from vivavoce.audit.errors import LogUnavailable, NoSuchProof
from vivavoce.consent.errors import ConsentInvalid, ConsentRefused, LinkRefused
from vivavoce.console.pages import CONSOLE, HEADERS, page
from vivavoce.ledger.errors import ObjectStoreUnavailable
from vivavoce.policy.errors import PolicyRefused
from vivavoce.release.errors import ReleaseRefused
from vivavoce.sound import SoundCode, SoundError

_OPENAI_ROUTES = "/v1/audio/"
_log = structlog.get_logger("vivavoce.api")

_NOT_FOUND = {
    *("unknown_subject", "link_unknown", "unknown_voice", "unknown_consent", "unknown_output", "voice_deleted"),
    *("unknown_challenge", "unknown_review", "unknown_webhook"),
}
_CONFLICT = {
    *("already_renewed", "idempotency_key_reused", "idempotency_key_in_use"),
    *("challenge_used", "challenge_expired", "review_decided", "job_not_retryable", "too_many_webhooks"),
}
_UNFIT = {"mark_not_found", "mark_identity_taken", "mark_too_short", "mark_silent", "nothing_to_release"}
_SOUND = set(get_args(SoundCode))
_UNAVAILABLE = {
    LogUnavailable: ("log_unavailable", "The audit log cannot be written at the moment, so nothing was done."),
    ObjectStoreUnavailable: ("store_unavailable", "The object store does not answer."),
    OperationalError: ("database_unavailable", "The database does not answer."),
    PoolTimeout: ("database_unavailable", "The database does not answer."),
}

Refusal = ConsentRefused | ConsentInvalid | LinkRefused | PolicyRefused | ReleaseRefused | SoundError
"""What safety and the sound reader say no with: each has a `code` and a `detail`."""


class ProblemView(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    """`urn:vivavoce:problem:` and the code."""
    title: str
    status: int
    code: str
    """A stable name that programs can act on, such as `consent_revoked`."""
    detail: str
    """One sentence for people."""
    field: str | None = None
    """The part of the request that is wrong, if it is one part."""


class OpenAIError(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class OpenAIErrorView(BaseModel):
    """An error on the OpenAI-compatible routes."""

    error: OpenAIError


_SAID = {"4XX": "The request was refused; the code says why.", "5XX": "Something on this side is away or broken."}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": said,
        "content": {"application/problem+json": {"schema": ProblemView.model_json_schema()}},
    }
    for status, said in _SAID.items()
}
"""Errors as the OpenAPI document describes them; for the OpenAI-compatible routes: `OPENAI_PROBLEMS`."""
OPENAI_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "model": OpenAIErrorView} for status, said in _SAID.items()
}


class Problem(HTTPException):
    """An error with a name that programs can act on.

    Args:
        status: HTTP status.
        code: Stable name, such as `consent_revoked`.
        detail: One sentence for people.
        field: The part of the request that is wrong, if it is one part.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code
        self.field = field


def answer(request: Request, problem: Problem) -> Response:
    """Shape a problem for the route that was asked; people at the console get a page."""
    status = problem.status_code
    request.state.problem = problem.code
    if request.url.path.startswith(CONSOLE):
        title, headers = HTTPStatus(status).phrase, HEADERS | dict(problem.headers or {})
        return page("refused.html", status, headers=headers, title=title, detail=problem.detail)
    if request.url.path.startswith(_OPENAI_ROUTES):
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": problem.detail, "type": kind, "param": problem.field, "code": problem.code}
        return JSONResponse({"error": error}, status, problem.headers)
    body: dict[str, Any] = {
        "type": f"urn:vivavoce:problem:{problem.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": problem.code,
        "detail": problem.detail,
    }
    if problem.field is not None:
        body["field"] = problem.field
    return JSONResponse(body, status, problem.headers, media_type="application/problem+json")


def unavailable(request: Request, error: Exception) -> Response:
    """Answer that something which every request needs is away, and record what it was."""
    code, detail = next(said for kind, said in _UNAVAILABLE.items() if isinstance(error, kind))
    _log.error(code, error=type(error).__name__)
    return answer(request, Problem(503, code, f"{detail} Try again later.", headers={"Retry-After": "5"}))


def job_problem(request: Request, status: str, code: str | None, detail: str | None) -> Problem:
    """Say why a job that ended without success gave nothing."""
    code, detail = code or status, detail or f"The job is {status}."
    if status == "refused":
        return Problem(_refusal_status(code, 422 if code in _UNFIT else 403), code, detail)
    if status == "cancelled":
        return Problem(409, code, detail)
    return Problem(invalid_status(request) if code in _SOUND else 500, code, detail)


def invalid_status(request: Request) -> int:
    """Give the status for a request that is well-formed and wrong: OpenAI's 400, or 422."""
    return 400 if request.url.path.startswith(_OPENAI_ROUTES) else 422


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NoSuchProof, _no_proof)
    for refusal in (ConsentRefused, ConsentInvalid, LinkRefused, PolicyRefused, ReleaseRefused, SoundError):
        app.add_exception_handler(refusal, _refused)
    for kind in _UNAVAILABLE:
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return answer(request, error)
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return answer(request, Problem(error.status_code, code, str(error.detail), headers=error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        return answer(request, Problem(400, "invalid_json", "The body is not valid JSON."))
    if place[0] == "path":
        return answer(request, Problem(404, "not_found", "There is nothing at this address."))
    # An unknown field's name is the caller's text; all other places and messages are ours.
    field = None if first["type"] == "extra_forbidden" else ".".join(place[1:]) or place[0]
    detail = "The request has a field that is not known here." if field is None else f"{field}: {first['msg']}"
    return answer(request, Problem(invalid_status(request), "invalid_request", detail, field=field))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for these types
    otherwise = 403 if isinstance(error, ConsentRefused | ReleaseRefused) else invalid_status(request)
    return answer(request, Problem(_refusal_status(error.code, otherwise), error.code, error.detail))


async def _no_proof(request: Request, error: Exception) -> Response:
    return answer(request, Problem(404, "no_such_proof", str(error)))


async def _unavailable(request: Request, error: Exception) -> Response:
    return unavailable(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("unexpected_error", error=type(error).__name__)
    return answer(request, Problem(500, "internal_error", "Something broke on our side; it has been recorded."))


def _refusal_status(code: str, otherwise: int) -> int:
    return 404 if code in _NOT_FOUND else 409 if code in _CONFLICT else otherwise

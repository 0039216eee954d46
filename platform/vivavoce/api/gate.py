"""The gate before `/v1`: who asks, how often, how much; before the public detection, how much.

It stands before the body is read, and nothing under `/v1` is open by default. Scopes are
checked by each route through `allowed`; a test goes over all routes and sees that they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from vivavoce.api.counting import Counted
from vivavoce.api.keys import find_key, well_formed
from vivavoce.api.problems import Problem, answer, unavailable
from vivavoce.api.refusals import Refusals
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import LogUnavailable
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import LinkRefused
from vivavoce.consent.invitations import open_invitation
from vivavoce.consent.links import open_link
from vivavoce.console.pages import CONSOLE

GUARDED = "/v1/"
PUBLIC = "/detect"
"""For everybody, without a key; only the size of what is sent is watched here."""
LINKED = "/subject/"
"""For speakers, who come by a link and have no account."""
INVITED = "/speak/"
"""For speakers who are invited to consent, and have no account either."""
_WATCHED = (GUARDED, PUBLIC, LINKED, INVITED, CONSOLE)
_ELEVENLABS_ROUTES = ("/v1/speech-to-speech/", "/v1/voice-changer/", "/v1/text-to-speech/")


@dataclass(frozen=True)
class Caller:
    """Who asks: one API key of one tenant."""

    key_id: str
    tenant_id: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class Speaker:
    """Who comes by a subject link."""

    link_id: str
    subject_id: str
    tenant_id: str

    @property
    def actor(self) -> str:
        """How the log names them."""
        return f"subject:{self.link_id}"


class Gate:
    """ASGI middleware in front of all guarded paths."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(services.settings.requests_per_minute)
        self._refusals = RateLimitItemPerMinute(services.settings.refusals_per_minute)
        self._refused = Refusals(services)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Let a request through with its `caller`, or answer it here."""
        if scope["type"] != "http" or not scope["path"].startswith(_WATCHED):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        send = self._told(scope, send)
        try:
            self._measure(request)
            if scope["path"].startswith(GUARDED):
                scope.setdefault("state", {})["caller"] = await self._recognise(request)
            elif scope["path"].startswith(LINKED):
                scope.setdefault("state", {})["speaker"] = await self._welcome(request, LINKED)
            elif scope["path"].startswith(INVITED):
                await self._welcome(request, INVITED)
        except Problem as problem:
            await answer(request, problem)(scope, receive, send)
        except (LogUnavailable, OperationalError, PoolTimeout) as error:
            await unavailable(request, error)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _measure(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return
        # By its digits first: Python refuses to read a number of thousands of them.
        digits = length.lstrip("0")
        limit = self._services.settings.max_body_bytes
        if len(digits) > len(str(limit)) or int(digits or "0") > limit:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._services.settings.max_body_bytes:
                raise self._too_large()
            return message

        return counted

    def _told(self, scope: Connection, send: Send) -> Send:
        """Say in every answer to somebody whose requests are counted how much is left to them."""

        async def told(message: Message) -> None:
            counted = scope.get("state", {}).get("counted")
            if message["type"] == "http.response.start" and counted is not None:
                MutableHeaders(scope=message).update(counted.headers())
            await send(message)

        return told

    def _too_large(self) -> Problem:
        limit = self._services.settings.max_body_bytes
        return Problem(413, "body_too_large", f"The body is larger than {limit} bytes.")

    async def _recognise(self, request: Request) -> Caller:
        address = self._require_patience(request)
        token = _token(request)
        caller, reason = await run_in_threadpool(self._look_up, token)
        if caller is None:
            self._limiter.hit(self._refusals, "refused", address)
            await run_in_threadpool(self._refused.log, _area(request), token, reason)
            detail = (
                "This needs an API key: Authorization: Bearer vv_..." if token is None else "This key is not valid."
            )
            raise Problem(401, "invalid_api_key", detail, headers={"WWW-Authenticate": "Bearer"})
        request.state.counted = Counted(self._limiter, self._requests, "key", caller.key_id)
        request.state.charge = self._charge
        self._charge(caller.key_id, 1)
        return caller

    def _charge(self, key_id: str, requests: int) -> None:
        # Asked first: a hit that is too much would count, and shut the key out for the rest of the minute.
        if not self._limiter.test(self._requests, "key", key_id, cost=requests) or not self._limiter.hit(
            self._requests, "key", key_id, cost=requests
        ):
            raise Counted(self._limiter, self._requests, "key", key_id).too_many()

    def _require_patience(self, request: Request) -> str:
        """Give the address of who asks, unless it has been refused too often."""
        address = request.client.host if request.client else "unknown"
        # Tested first and counted only on refusal: guessing is slowed down, working keys are not.
        if not self._limiter.test(self._refusals, "refused", address):
            raise Counted(self._limiter, self._refusals, "refused", address).too_many()
        return address

    async def _welcome(self, request: Request, prefix: str) -> Speaker | None:
        """Let in who comes by a token in the address; an invited person is no subject yet."""
        address = self._require_patience(request)
        token = request.url.path.removeprefix(prefix).partition("/")[0]
        try:
            opened, speaker = await run_in_threadpool(self._follow, prefix, token)
        except LinkRefused as refusal:
            self._limiter.hit(self._refusals, "refused", address)
            await run_in_threadpool(self._refused.log, _area(request), None, refusal.code)
            raise Problem(404, "link_not_valid", refusal.detail) from refusal
        request.state.counted = Counted(self._limiter, self._requests, "link", opened)
        request.state.counted.hit()
        return speaker

    def _follow(self, prefix: str, token: str) -> tuple[str, Speaker | None]:
        with self._services.database.read() as session:
            if prefix == INVITED:
                return open_invitation(session, self._services.keyring, token, now()).id, None
            link = open_link(session, self._services.keyring, token, now())
        return link.id, Speaker(link.id, link.subject_id, link.tenant_id)

    def _look_up(self, token: str | None) -> tuple[Caller | None, str]:
        if token is None:
            return None, "key_missing"
        if not well_formed(token):
            return None, "key_malformed"
        with self._services.database.read() as session:
            row = find_key(session, self._services.keyring, token)
        if row is None:
            return None, "key_unknown"
        if row.revoked_at is not None:
            return None, "key_revoked"
        return Caller(row.id, row.tenant_id, frozenset(row.scopes)), ""


_AREAS = (
    *("/v1/audio/", *_ELEVENLABS_ROUTES, "/v1/watermark/", "/v1/jobs/", "/v1/audit/", "/v1/outputs/"),
    *("/v1/consents", "/v1/reviews", "/v1/usage", "/v1/webhooks", "/v1/batches", LINKED, INVITED),
)


def _token(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    if request.url.path.startswith(_ELEVENLABS_ROUTES):
        return request.headers.get("xi-api-key")
    return None


def _area(request: Request) -> str:
    # The path itself is the caller's text and may carry anything; the log takes only its known first words.
    for prefix in _AREAS:
        if request.url.path.startswith(prefix):
            return prefix
    return GUARDED


# For the OpenAPI document only; the gate has asked for the key already.
_bearer = HTTPBearer(auto_error=False, description="An API key, `vv_...`")


def allowed(scope: Scope) -> Any:  # noqa: ANN401 - FastAPI's marker
    """Mark the parameter of a route that needs a scope; its value is the `Caller`."""

    def check(request: Request, services: Here, _: Annotated[object, Depends(_bearer)]) -> Caller:
        caller = request.state.caller
        assert isinstance(caller, Caller)  # noqa: S101 - the gate lets nobody through without
        require_scope(services, caller, scope)
        return caller

    check.scope = scope  # type: ignore[attr-defined]  # for the test that goes over all routes
    return Depends(check)


def _speaker(request: Request) -> Speaker:
    speaker = request.state.speaker
    assert isinstance(speaker, Speaker)  # noqa: S101 - the gate lets nobody through without
    return speaker


BySpeaker = Annotated[Speaker, Depends(_speaker)]
"""Parameter of a route that a speaker reaches by their link."""


def charge(request: Request, requests: int) -> None:
    """Count a request as so many more; raises `Problem` (429) if they are not left to its key."""
    if requests:
        request.state.charge(request.state.caller.key_id, requests)


def require_scope(services: Services, caller: Caller, scope: Scope) -> None:
    """Refuse a caller whose key lacks a scope, and log it; raises `Problem` (403)."""
    if scope in caller.scopes:
        return
    facts = {"reason": "scope_missing", "scope": scope.value}
    with services.database.write() as session:
        entry = Entry(Tag.AUTH_REFUSE, caller.tenant_id, caller.key_id, {"key": caller.key_id}, facts)
        services.log.append(session, entry)
    raise Problem(403, "missing_scope", f"This key lacks the scope {scope.value}.")

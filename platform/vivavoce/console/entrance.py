"""`/console/login` and out again. Who guesses is slowed down, and every failure is in the log."""

from __future__ import annotations

import math
import re
import time
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services, now
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.console import logins
from vivavoce.console.accounts import recognise
from vivavoce.console.desk import (
    CONSOLE_HEADERS,
    LOGIN,
    Reader,
    Sent,
    clear_cookie,
    require_private,
    same_origin,
    set_cookie,
)
from vivavoce.console.pages import CONSOLE, page

router = APIRouter(tags=["console"], include_in_schema=False)

_BY_ADDRESS = RateLimitItemPerMinute(10)
_BY_NAME = RateLimitItemPerHour(60)
"""However many addresses try one name."""
_WITHIN = re.compile(rf"{CONSOLE}(/[\w./-]*)?(\?[\w.,:=&%+-]*)?", re.ASCII)


class LoginForm(Sent):
    """Who wants in, and where they were going."""

    name: str
    password: str
    next: str = CONSOLE


class Throttle:
    """Counts failed logins, by address and by name."""

    def __init__(self, storage: Storage) -> None:
        self._limiter = FixedWindowRateLimiter(storage)

    def require_patience(self, address: str, name: str) -> None:
        """Refuse who has failed too often; raises `Problem` (429)."""
        for limit, whose in self._counted(address, name):
            if not self._limiter.test(limit, *whose):
                wait = self._limiter.get_window_stats(limit, *whose).reset_time - time.time()
                seconds = str(max(1, math.ceil(wait)))
                headers = {"Retry-After": seconds}
                raise Problem(429, "rate_limited", f"Too many failed logins; wait {seconds} s.", headers=headers)

    def failed(self, address: str, name: str) -> None:
        """Count a failure."""
        for limit, whose in self._counted(address, name):
            self._limiter.hit(limit, *whose)

    @staticmethod
    def _counted(address: str, name: str) -> tuple[tuple[RateLimitItem, tuple[str, str]], ...]:
        return (_BY_ADDRESS, ("login from", address)), (_BY_NAME, ("login as", name))


@router.get(LOGIN)
def ask(request: Request, here: Here, next: str = CONSOLE) -> Response:  # noqa: A002 - its name in the address
    """Ask who it is."""
    require_private(request)
    return _asking(here, _inside(next))


@router.post(LOGIN)
def enter(form: Annotated[LoginForm, Form()], request: Request, here: Here) -> Response:
    """Let in whom name and password open an account for."""
    require_private(request)
    if not same_origin(request):
        raise Problem(403, "form_refused", "This form is not from here.")
    address, throttle = request.client.host if request.client else "unknown", throttle_of(request)
    throttle.require_patience(address, form.name)
    with here.database.read() as session:
        account, reason = recognise(session, form.name, form.password)
    if account is None:
        throttle.failed(address, form.name)
        refuse_login(here, reason)
        return _asking(here, _inside(form.next), 403, "Name and password do not fit.")
    with here.database.write() as session:
        token = logins.begin(session, here.log, account, "password", now())
    answer = RedirectResponse(_inside(form.next), 303)
    set_cookie(request, answer, token)
    return answer


@router.post(f"{CONSOLE}/logout")
def leave(operator: Reader, request: Request, here: Here) -> Response:
    """Log out."""
    with here.database.write() as session:
        logins.end(session, here.log, operator.token, operator.account_id, operator.actor)
    answer = RedirectResponse(LOGIN, 303)
    clear_cookie(request, answer)
    return answer


def refuse_login(here: Services, reason: str) -> None:
    """Log that somebody was not let in. What they typed is theirs, and stays out of the log."""
    facts = {"reason": reason, "area": CONSOLE}
    with here.database.write() as session:
        here.log.append(session, Entry(Tag.AUTH_REFUSE, None, "anonymous", {}, facts))


def _asking(here: Services, behind: str, status: int = 200, problem: str | None = None) -> Response:
    oidc = bool(here.settings.oidc_issuer)
    return page("console/login.html", status, headers=CONSOLE_HEADERS, next=behind, problem=problem, oidc=oidc)


def _inside(address: str) -> str:
    return address if _WITHIN.fullmatch(address) else CONSOLE


def throttle_of(request: Request) -> Throttle:
    """Give the application's count of failed logins."""
    throttle = request.app.state.throttle
    assert isinstance(throttle, Throttle)  # noqa: S101 - set before the first request
    return throttle

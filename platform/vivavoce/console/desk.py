"""Who sits at the console: every route of it asks here, and names the roles that it is for."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse

from vivavoce.api.metrics import is_local
from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import FormBody
from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.tags import Tag
from vivavoce.console import logins
from vivavoce.console.accounts import actor
from vivavoce.console.pages import CONSOLE, HEADERS, page
from vivavoce.ledger.accounts import Role

CONSOLE_HEADERS = HEADERS | {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace("media-src blob:", "media-src 'self'"),
    # With `no-referrer` browsers send forms with the origin `null`.
    "Referrer-Policy": "same-origin",
}
LOGIN = f"{CONSOLE}/login"


class Sent(FormBody):
    """What every form of the console carries."""

    form_token: str = ""


@dataclass(frozen=True)
class Operator:
    """Who is logged in.

    Attributes:
        form_token: What their forms must carry.
    """

    account_id: str
    name: str
    role: Role
    token: str
    form_token: str

    @property
    def actor(self) -> str:
        """How the log names them."""
        return actor(self.name)

    @property
    def admin(self) -> bool:
        """Whether they may change anything."""
        return self.role is Role.ADMIN

    @property
    def hears(self) -> bool:
        """Whether they may hear what speakers recorded."""
        return self.role is not Role.AUDITOR


async def _form_token(request: Request) -> str:
    if request.method in ("GET", "HEAD"):
        return ""
    return str((await request.form()).get("form_token", ""))


def permitted(*roles: Role) -> Any:  # noqa: ANN401 - FastAPI's marker
    """Mark the parameter of a console route that is for these roles; its value is the `Operator`."""

    def check(request: Request, here: Here, sent: Annotated[str, Depends(_form_token)]) -> Operator:
        require_private(request)
        operator = _logged_in(request, here)
        if operator.role not in roles:
            _refuse(here, operator, "role_missing")
            raise Problem(403, "role_missing", f"This is not for the role {operator.role}.")
        if request.method not in ("GET", "HEAD"):
            right = hmac.compare_digest(sent.encode(), operator.form_token.encode())
            if not right or not same_origin(request):
                _refuse(here, operator, "form_refused")
                raise Problem(403, "form_refused", "This form is not from here, or its login is over. Load it again.")
        return operator

    check.roles = frozenset(roles)  # type: ignore[attr-defined]  # for the test that goes over all routes
    return Depends(check)


Reader = Annotated[Operator, permitted(*Role)]
Reviewer = Annotated[Operator, permitted(Role.ADMIN, Role.REVIEWER)]
Admin = Annotated[Operator, permitted(Role.ADMIN)]


def show(
    template: str,
    operator: Operator,
    status: int = 200,
    **values: Any,  # noqa: ANN401 - whatever a template shows
) -> HTMLResponse:
    """Render a page of the console."""
    return page(f"console/{template}", status, headers=CONSOLE_HEADERS, operator=operator, **values)


def write_down(
    here: Services,
    operator: Operator,
    tag: Tag,
    refs: Mapping[str, str | int],
    facts: Mapping[str, Json] | None = None,
    tenant_id: str | None = None,
) -> None:
    """Log what an operator is about to see.

    Args:
        tenant_id: Whose it is, where it is one person's: so that it stands in that person's own export, too.
    """
    with here.database.write() as session:
        here.log.append(session, Entry(tag, tenant_id, operator.actor, refs, facts or {}))


def require_private(request: Request) -> None:
    """Refuse plain HTTP, but from this very machine; raises `Problem` (403)."""
    if request.url.scheme != "https" and not is_local(request):
        raise Problem(403, "https_needed", "The console is reached over HTTPS only.")


def same_origin(request: Request) -> bool:
    """Whether a form was sent from a page of ours, as the browser says."""
    origin = request.headers.get("origin")
    if origin is not None:
        return origin == f"{request.url.scheme}://{request.url.netloc}"
    return request.headers.get("sec-fetch-site") == "same-origin"


def set_cookie(request: Request, answer: Response, token: str) -> None:
    """Give a login's token to the browser; it goes with the browser's session."""
    secure = request.url.scheme == "https"
    answer.set_cookie(_cookie(request), token, path="/", secure=secure, httponly=True, samesite="strict")


def clear_cookie(request: Request, answer: Response) -> None:
    """Take a login's token out of the browser."""
    secure = request.url.scheme == "https"
    answer.delete_cookie(_cookie(request), path="/", secure=secure, httponly=True, samesite="strict")


def _cookie(request: Request) -> str:
    # A browser takes the prefix as a promise: Secure, this host alone, the whole path (RFC 6265bis section 4.1.3.2).
    return "__Host-vivavoce" if request.url.scheme == "https" else "vivavoce"


def _logged_in(request: Request, here: Services) -> Operator:
    token = request.cookies.get(_cookie(request), "")
    with here.database.read() as session:
        found = logins.find(session, token, now())
    if found is None:
        raise _to_login(request)
    login, account = found
    with here.database.write() as session:
        logins.touch(session, login, now())
    return Operator(account.id, account.name, Role(account.role), token, logins.form_token(token))


def _to_login(request: Request) -> Problem:
    behind = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = LOGIN + (f"?next={quote(behind)}" if request.method == "GET" else "")
    if "hx-request" in request.headers:  # it would put the login page where a part of the page was asked for
        return Problem(401, "login_needed", "Log in first.", headers={"HX-Redirect": LOGIN})
    return Problem(303, "login_needed", "Log in first.", headers={"Location": address})


def _refuse(here: Services, operator: Operator, reason: str) -> None:
    facts = {"reason": reason, "area": CONSOLE}
    with here.database.write() as session:
        here.log.append(session, Entry(Tag.AUTH_REFUSE, None, operator.actor, {"account": operator.account_id}, facts))

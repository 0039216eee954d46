"""`/console/oidc`: to the provider and back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, now
from vivavoce.console import logins
from vivavoce.console.desk import CONSOLE_HEADERS, require_private, set_cookie
from vivavoce.console.entrance import refuse_login, throttle_of
from vivavoce.console.openid import PATIENCE, NotLetIn, Provider, account_for, sealed, unsealed
from vivavoce.console.pages import CONSOLE, page

router = APIRouter(prefix=f"{CONSOLE}/oidc", tags=["console"], include_in_schema=False)

_ANYBODY = "oidc"
"""Nobody says who they are before the provider does."""


@router.get("")
def go(request: Request, here: Here) -> Response:
    """Send somebody to the provider."""
    provider = _provider(request, here)
    try:
        address, flow = provider.begin(now())
    except NotLetIn as error:
        raise Problem(502, "oidc_provider_failed", "The login provider does not answer as it should.") from error
    answer = RedirectResponse(address, 303)
    secure = request.url.scheme == "https"
    # Lax: the way back from the provider begins at another site.
    answer.set_cookie(
        _cookie(request),
        sealed(here.keyring, flow),
        max_age=int(PATIENCE.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/callback")
def come_back(request: Request, here: Here, code: str = "", state: str = "") -> Response:
    """Let in whom the provider has recognised."""
    provider = _provider(request, here)
    address, throttle = request.client.host if request.client else "unknown", throttle_of(request)
    throttle.require_patience(address, _ANYBODY)
    try:
        flow = unsealed(here.keyring, request.cookies.get(_cookie(request), ""))
        external, role = provider.finish(flow, code, state, now())
        with here.database.write() as session:
            account = account_for(session, here.log, external, role, now())
            token = logins.begin(session, here.log, account, "oidc", now())
    except NotLetIn as error:
        throttle.failed(address, _ANYBODY)
        refuse_login(here, error.reason)
        raise Problem(403, "login_refused", "The login did not work. Begin again at the login page.") from error
    # A page and no redirect: the login's cookie is not sent on a way that began at another site.
    answer = page("console/welcome.html", headers=CONSOLE_HEADERS | {"Refresh": f"0; url={CONSOLE}"})
    set_cookie(request, answer, token)
    answer.delete_cookie(_cookie(request), path="/", secure=request.url.scheme == "https", httponly=True)
    return answer


def _provider(request: Request, here: Here) -> Provider:
    require_private(request)
    if not here.settings.oidc_issuer:
        raise Problem(404, "not_found", "No login provider is set up here.")
    return Provider(here.settings, f"{request.url.scheme}://{request.url.netloc}{CONSOLE}/oidc/callback")


def _cookie(request: Request) -> str:
    return "__Host-vivavoce-oidc" if request.url.scheme == "https" else "vivavoce-oidc"

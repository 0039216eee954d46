"""`/console/keys`: who may call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from pydantic import Field
from sqlalchemy import select

from vivavoce.api.keys import UnknownKey, create_key, revoke_key
from vivavoce.api.problems import Problem
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.tenants import UnknownTenant
from vivavoce.audit.tags import Tag
from vivavoce.consent.names import plain_name
from vivavoce.console.desk import Admin, Operator, Reader, Sent, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.ledger.tables import ApiKey, Tenant

router = APIRouter(tags=["console"], include_in_schema=False)


class NewKey(Sent):
    """A key to be made."""

    name: str
    tenant: str
    scopes: Annotated[list[Scope], Field(min_length=1)]


@router.get(f"{CONSOLE}/keys")
def read_all(operator: Reader, here: Here) -> Response:
    """List all keys by what they begin with."""
    write_down(here, operator, Tag.KEY_READ, {})
    return _page(here, operator, None)


@router.post(f"{CONSOLE}/keys")
def create(form: Annotated[NewKey, Form()], operator: Admin, here: Here) -> Response:
    """Make a key and show it, once."""
    name = plain_name(form.name)
    try:
        with here.database.write() as session:
            _, token = create_key(
                session,
                here.log,
                here.keyring,
                tenant_id=form.tenant,
                name=name,
                scopes=form.scopes,
                now=now(),
                actor=operator.actor,
            )
    except UnknownTenant as error:
        raise Problem(404, "unknown_tenant", "There is no such tenant.") from error
    return _page(here, operator, token)


@router.post(f"{CONSOLE}/keys/{{key_id}}/revoke")
def revoke(key_id: str, operator: Admin, here: Here) -> Response:
    """Make a key worthless, at once and for ever."""
    try:
        with here.database.write() as session:
            revoke_key(session, here.log, key_id, now(), operator.actor)
    except UnknownKey as error:
        raise Problem(404, "unknown_key", "There is no such key.") from error
    return RedirectResponse(f"{CONSOLE}/keys", 303)


def _page(here: Services, operator: Operator, token: str | None) -> Response:
    with here.database.read() as session:
        keys = session.scalars(select(ApiKey).order_by(ApiKey.revoked_at.is_not(None), ApiKey.id.desc())).all()
        tenants = session.scalars(select(Tenant).order_by(Tenant.name)).all()
    names = {one.id: one.name for one in tenants}
    return show("keys.html", operator, keys=keys, tenants=tenants, names=names, scopes=list(Scope), token=token)

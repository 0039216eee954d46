"""`/console/tenants`: customers, and the rules that each works under."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import func, select

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, now
from vivavoce.api.tenants import UnknownTenant, create_tenant, set_rules
from vivavoce.audit.tags import Tag
from vivavoce.consent.names import plain_name
from vivavoce.consent.profiles import Name, profile_of
from vivavoce.console.desk import Admin, Reader, Sent, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.ledger.tables import Assurance, Consent, Tenant

router = APIRouter(tags=["console"], include_in_schema=False)


class NewTenant(Sent):
    """A customer to be entered."""

    name: str


class Rules(Sent):
    """What a tenant's consents and requests are asked; an assurance that is not set stays the profile's."""

    profile: Name
    least_assurance: Assurance | Literal[""] = ""


@router.get(f"{CONSOLE}/tenants")
def read_all(operator: Reader, here: Here) -> Response:
    """List the tenants with their compliance profiles."""
    write_down(here, operator, Tag.TENANT_READ, {})
    with here.database.read() as session:
        counts = dict(session.execute(select(Consent.tenant_id, func.count()).group_by(Consent.tenant_id)).all())
        tenants = session.scalars(select(Tenant).order_by(Tenant.name)).all()
        rows = [(tenant, profile_of(session, tenant.id), counts.get(tenant.id, 0)) for tenant in tenants]
    return show("tenants.html", operator, rows=rows, profiles=get_args(Name), assurances=list(Assurance))


@router.post(f"{CONSOLE}/tenants")
def create(form: Annotated[NewTenant, Form()], operator: Admin, here: Here) -> Response:
    """Enter a customer, under the strictest profile."""
    name = plain_name(form.name)
    with here.database.write() as session:
        create_tenant(session, here.log, name, now(), operator.actor)
    return RedirectResponse(f"{CONSOLE}/tenants", 303)


@router.post(f"{CONSOLE}/tenants/{{tenant_id}}/rules")
def set_(tenant_id: str, form: Annotated[Rules, Form()], operator: Admin, here: Here) -> Response:
    """Set a tenant's rules; what is queued is asked by the new ones."""
    try:
        with here.database.write() as session:
            set_rules(session, here.log, tenant_id, form.profile, form.least_assurance or None, operator.actor)
    except UnknownTenant as error:
        raise Problem(404, "unknown_tenant", "There is no such tenant.") from error
    return RedirectResponse(f"{CONSOLE}/tenants", 303)

"""Tenants: who is a customer, and under which rules."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.profiles import Name
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import Assurance, Tenant


class UnknownTenant(LookupError):
    """There is no tenant of this id."""


def create_tenant(session: Session, log: Log, name: str, now: datetime, actor: str) -> Tenant:
    """Enter a customer."""
    tenant = Tenant(id=new_id("ten"), name=name, created_at=now)
    session.add(tenant)
    log.append(session, Entry(Tag.TENANT_CREATE, tenant.id, actor, {"tenant": tenant.id}, {}))
    return tenant


def set_rules(
    session: Session, log: Log, tenant_id: str, profile: Name | None, least_assurance: Assurance | None, actor: str
) -> Tenant:
    """Set what is asked of a tenant's consents and requests from now on; None leaves a rule as it is.

    Raises:
        UnknownTenant: Nobody of this id is entered.
    """
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        raise UnknownTenant(tenant_id)
    tenant.profile = profile or tenant.profile
    tenant.least_assurance = least_assurance or tenant.least_assurance
    facts = {"profile": tenant.profile, "least_assurance": tenant.least_assurance}
    log.append(session, Entry(Tag.TENANT_UPDATE, tenant.id, actor, {"tenant": tenant.id}, facts))
    return tenant

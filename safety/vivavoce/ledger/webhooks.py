"""More tables: where tenants want to be told, and what they must still be told.

A delivery is written down in the very transaction whose event it tells of, so no event is told that did not happen,
and none that did is lost, whoever is killed when. Both hold ids only.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import ID, Base, refers_to


class Event(StrEnum):
    """What a tenant can be told of."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_REFUSED = "job.refused"
    CONSENT_REVOKED = "consent.revoked"
    """Withdrawn, or ended by the speaker's erasure."""


class Webhook(Base):
    """An address of a tenant that is told of events."""

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    sealed: Mapped[bytes]
    """URL and secret (JSON), under the installation's key: either may let somebody in there. Empty once deleted."""
    events: Mapped[list[str]]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class WebhookDelivery(Base):
    """One event that one address must be told of. Due while `next_at` is set."""

    __tablename__ = "webhook_delivery"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(refers_to("webhook.id"), index=True)
    event: Mapped[str] = mapped_column(String(40))
    refs: Mapped[dict[str, str]] = mapped_column(JSON())
    """Ids of the things that the event is about."""
    created_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is tried next; None once it was delivered or given up."""
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(40))
    """Why the last attempt did not deliver, such as `status_500` or `address_not_public`."""


def announce(session: Session, tenant_id: str, event: Event, refs: dict[str, str], now: datetime) -> None:
    """Write down who must be told of an event; nothing is sent before the caller's transaction is committed."""
    listening = select(Webhook).where(Webhook.tenant_id == tenant_id, Webhook.deleted_at.is_(None))
    session.add_all(
        WebhookDelivery(
            id=new_id("msg"), webhook_id=hook.id, event=event, refs=refs, created_at=now, attempts=0, next_at=now
        )
        for hook in session.scalars(listening)
        if event in hook.events
    )

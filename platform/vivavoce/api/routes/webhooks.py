"""`/v1/webhooks`: be told when jobs end and consents are withdrawn, as Standard Webhooks, instead of asking."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import After, Body, Deleted, Limit, Page, page
from vivavoce.ledger.webhooks import Event, Webhook, WebhookDelivery
from vivavoce.policy.webhooks import (
    MAX_URL_CHARACTERS,
    Target,
    create_webhook,
    delete_webhook,
    find_webhook,
    new_secret,
    open_target,
    webhooks,
)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

Owner = Annotated[Caller, allowed(Scope.WEBHOOKS)]


class NewWebhook(Body):
    """Where to send, and what."""

    url: Annotated[str, Field(max_length=MAX_URL_CHARACTERS)]
    secret: Annotated[str | None, Field(max_length=200)] = None
    """`whsec_` and 24 to 64 bytes in base 64; by default one is made."""
    events: list[Event] = Field(default_factory=lambda: list(Event), min_length=1, max_length=len(Event))


class WebhookView(BaseModel):
    """A webhook."""

    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    events: list[Event]
    created_at: datetime


class CreatedWebhook(WebhookView):
    """A new webhook with its secret, which is shown this once."""

    secret: str


class DeliveryView(BaseModel):
    """One event on its way."""

    object: Literal["webhook.delivery"] = "webhook.delivery"
    id: str
    """The `webhook-id` of every attempt."""
    event: Event
    data: dict[str, str]
    created_at: datetime
    attempts: int
    next_at: datetime | None
    """When it is tried next; null once it was delivered or given up."""
    delivered_at: datetime | None
    last_error: str | None


@router.post("")
def create(body: NewWebhook, caller: Owner, here: Here) -> CreatedWebhook:
    """Be told of events from now on: each at least once, signed, with ids only."""
    target = Target(body.url, body.secret or new_secret())
    with here.database.write() as session:
        hook = create_webhook(
            session,
            here.log,
            here.keyring,
            tenant_id=caller.tenant_id,
            actor=caller.key_id,
            target=target,
            events=body.events,
            to_loopback=here.settings.webhooks_to_loopback,
            now=now(),
        )
        return CreatedWebhook(**_view(here, hook).model_dump(), secret=target.secret)


@router.get("")
def read_all(caller: Owner, here: Here) -> Page[WebhookView]:
    """List the tenant's webhooks, newest first."""
    with here.database.read() as session:
        found = webhooks(session, caller.tenant_id)
    return page([_view(here, hook) for hook in found], len(found), [hook.id for hook in found])


@router.get("/{webhook_id}")
def read(webhook_id: str, caller: Owner, here: Here) -> WebhookView:
    """Read one webhook; its secret cannot be read."""
    with here.database.read() as session:
        return _view(here, find_webhook(session, caller.tenant_id, webhook_id))


@router.get("/{webhook_id}/deliveries")
def deliveries(
    webhook_id: str, caller: Owner, here: Here, after: After = None, limit: Limit = 20
) -> Page[DeliveryView]:
    """List what a webhook was told, and what it still must be, newest first."""
    with here.database.read() as session:
        hook = find_webhook(session, caller.tenant_id, webhook_id)
        mine = select(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id)
        if after is not None:
            mine = mine.where(WebhookDelivery.id < after)
        found = session.scalars(mine.order_by(WebhookDelivery.id.desc()).limit(limit + 1)).all()
    return page([_delivery(one) for one in found], limit, [one.id for one in found])


@router.delete("/{webhook_id}")
def delete(webhook_id: str, caller: Owner, here: Here) -> Deleted:
    """Be told nothing more at this address; what waits is given up."""
    with here.database.write() as session:
        hook = find_webhook(session, caller.tenant_id, webhook_id)
        delete_webhook(session, here.log, hook, caller.key_id, now())
    return Deleted(id=webhook_id, object="webhook")


def _view(here: Services, hook: Webhook) -> WebhookView:
    url = open_target(here.keyring, hook).url
    return WebhookView(id=hook.id, url=url, events=[Event(name) for name in hook.events], created_at=hook.created_at)


def _delivery(one: WebhookDelivery) -> DeliveryView:
    same = ("id", "event", "created_at", "attempts", "next_at", "delivered_at", "last_error")
    return DeliveryView(data=one.refs, **{name: getattr(one, name) for name in same})

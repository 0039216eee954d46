"""Where a tenant may have us send: public addresses over TLS, and nowhere else (server-side request forgery).

The form of a URL is checked when it is set; what its name stands for is checked at every sending, by whoever then
connects to the very address that was checked, so that a name cannot be turned to another address in between.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.envelope import seal_plain, unseal_plain
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.webhooks import Event, Webhook, WebhookDelivery
from vivavoce.policy.errors import PolicyRefused

MAX_URL_CHARACTERS = 2000
MOST_WEBHOOKS = 10
"""Addresses of one tenant: each event is told to each."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that the Standard Webhooks specification gives to secrets
SECRET_BYTES = range(24, 65)
"""Lengths that the specification allows."""

_TLS_PORT, _PLAIN_PORT = 443, 80
# Addresses that stand for IPv4 ones inside (RFC 6052, 3056, 4380): Python calls some of them global.
_WRAPPING = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


@dataclass(frozen=True)
class Target:
    """Where and with which key an event is sent."""

    url: str
    secret: str


def create_webhook(
    session: Session, log: Log, keyring: KeyRing, *, tenant_id: str, actor: str, target: Target, events: list[Event],
    to_loopback: bool, now: datetime,
) -> Webhook:  # fmt: skip
    """Have a tenant told of events from now on.

    Raises:
        PolicyRefused: url_not_allowed, secret_malformed, too_many_webhooks.
        LogUnavailable: The log cannot be written. There is no webhook.
    """
    split_url(target.url, to_loopback)
    secret_key(target.secret)
    hook = Webhook(id=new_id("wh"), tenant_id=tenant_id, events=sorted(set(events)), created_at=now, sealed=b"")
    # The log first: from here on a rival of the same tenant has committed or has not begun.
    log.append(session, Entry(Tag.WEBHOOK_CREATE, tenant_id, actor, {"webhook": hook.id}, {"events": hook.events}))
    if len(webhooks(session, tenant_id)) >= MOST_WEBHOOKS:
        raise PolicyRefused("too_many_webhooks", f"a tenant has at most {MOST_WEBHOOKS} webhooks; delete one first")
    plain = json.dumps({"url": target.url, "secret": target.secret}).encode()
    hook.sealed = seal_plain(keyring, plain, hook.id.encode())
    session.add(hook)
    session.flush()
    return hook


def delete_webhook(session: Session, log: Log, hook: Webhook, actor: str, now: datetime) -> None:
    """Tell an address nothing more: what waits for it is given up, its URL and secret are forgotten."""
    log.append(session, Entry(Tag.WEBHOOK_DELETE, hook.tenant_id, actor, {"webhook": hook.id}, {}))
    hook.deleted_at, hook.sealed = now, b""
    waiting = update(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id, WebhookDelivery.next_at.is_not(None))
    session.execute(waiting.values(next_at=None, last_error="webhook_deleted"))
    session.flush()


def webhooks(session: Session, tenant_id: str) -> list[Webhook]:
    """List a tenant's webhooks, newest first."""
    mine = select(Webhook).where(Webhook.tenant_id == tenant_id, Webhook.deleted_at.is_(None))
    return list(session.scalars(mine.order_by(Webhook.id.desc())))


def find_webhook(session: Session, tenant_id: str, webhook_id: str) -> Webhook:
    """Read a tenant's webhook; raises `PolicyRefused` (unknown_webhook) for others' as for none."""
    hook = session.get(Webhook, webhook_id) if is_id(webhook_id) else None
    if hook is None or hook.tenant_id != tenant_id or hook.deleted_at is not None:
        raise PolicyRefused("unknown_webhook", "there is no such webhook")
    return hook


def open_target(keyring: KeyRing, hook: Webhook) -> Target:
    """Unseal where a webhook sends; raises `SealBroken`."""
    return Target(**json.loads(unseal_plain(keyring, hook.sealed, hook.id.encode())))


def new_secret() -> str:
    """Make a secret as the specification spells it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_key(secret: str) -> bytes:
    """Give the key that a secret spells; raises `PolicyRefused` (secret_malformed)."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise PolicyRefused("secret_malformed", f"a secret is {SECRET_PREFIX} and 24 to 64 bytes in base 64")
    return key


def split_url(url: str, to_loopback: bool) -> tuple[SplitResult, str, int]:
    """Take a URL apart into itself, its host and port.

    Raises:
        PolicyRefused: `url_not_allowed`: not https (or http, where loopback is allowed), or not plainly a host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _not_allowed("it cannot be read") from error
    if len(url) > MAX_URL_CHARACTERS or not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        raise _not_allowed(f"at most {MAX_URL_CHARACTERS} characters of printable ASCII")
    if parts.scheme not in (("https", "http") if to_loopback else ("https",)):
        raise _not_allowed("it must begin with https://")
    if not host or port == 0 or "@" in parts.netloc or parts.fragment:
        raise _not_allowed("a host, and no user, password or fragment")
    with suppress(ValueError):  # a name: asked for at every sending
        require_reachable(ip_address(host), parts.scheme, to_loopback)
    return parts, host, port or (_TLS_PORT if parts.scheme == "https" else _PLAIN_PORT)


def resolve(host: str, port: int, scheme: str, to_loopback: bool) -> str:
    """Look a host up and give an address to connect to.

    Raises:
        PolicyRefused: `address_not_public`: one of its addresses is not for us to reach.
        OSError: The name is not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    # All of them, not the first: a name that stands for inside and outside is not an honest receiver's.
    for address in addresses:
        require_reachable(address, scheme, to_loopback)
    return str(addresses[0])


def require_reachable(address: IPv4Address | IPv6Address, scheme: str, to_loopback: bool) -> None:
    """Refuse what is inside: private, link-local, multicast, reserved; raises `PolicyRefused`."""
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    address = inner or address
    if to_loopback and address.is_loopback:
        return
    wrapped = any(address in network for network in _WRAPPING if network.version == address.version)
    if scheme != "https" or not address.is_global or address.is_multicast or address.is_reserved or wrapped:
        raise PolicyRefused("address_not_public", "webhooks are sent to public addresses over https only")


def _not_allowed(why: str) -> PolicyRefused:
    return PolicyRefused("url_not_allowed", f"this is no address for a webhook: {why}")

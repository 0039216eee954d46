"""The courier: tells tenants' addresses of events, as Standard Webhooks (standardwebhooks.com, 1.0.0).

Every worker runs one. A delivery is taken by moving its next attempt into the future before anything is sent, so a
courier that is killed loses nothing: another comes when that time is there. Receivers therefore hear of an event at
least once, each time under the same `webhook-id`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import structlog
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.webhooks import Webhook, WebhookDelivery
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.webhooks import Target, open_target, resolve, secret_key, split_url
from vivavoce.workers.logs import log_unforeseen
from vivavoce.workers.rounds import Rounds
from vivavoce.workers.settings import WorkerSettings

ATTEMPTS = 8
BACK_OFF = 3
"""Times longer each pause is than the one before: with a minute for the first, the last attempt is 18 hours later."""

_AT_ONCE = 16
_THREADS = 4

_log = structlog.get_logger("vivavoce.workers")


@dataclass(frozen=True)
class Letter:
    """One attempt at a delivery."""

    delivery_id: str
    attempt: int
    target: Target
    body: bytes


class Courier(Rounds):
    """A thread that sends what is due every `courier_seconds`."""

    def __init__(self, settings: WorkerSettings, database: Database, keyring: KeyRing) -> None:
        super().__init__("courier", settings.courier_seconds)
        self._settings = settings
        self._database = database
        self._keyring = keyring

    def round(self, now: datetime) -> int:
        """Send what is due, at most a page of it; returns the number of attempts."""
        with self._database.read() as session:
            if session.scalars(select(WebhookDelivery.id).where(_due(now)).limit(1)).first() is None:
                return 0
        with self._database.write() as session:
            letters = self._take(session, now)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="courier") as pool:
            list(pool.map(self._deliver, letters))
        return len(letters)

    def _go(self) -> bool:
        return self.round(datetime.now(UTC)) == _AT_ONCE

    def _take(self, session: Session, now: datetime) -> list[Letter]:
        """Take deliveries that are due: their next attempt, should this one be lost, is written down first."""
        due = select(WebhookDelivery).where(_due(now)).order_by(WebhookDelivery.next_at).limit(_AT_ONCE)
        letters = []
        for one in session.scalars(due.with_for_update(skip_locked=True)):
            hook = session.get_one(Webhook, one.webhook_id)
            pause = self._settings.courier_pause_seconds * BACK_OFF**one.attempts
            if one.attempts == ATTEMPTS:
                one.next_at, one.last_error = None, "attempts_exhausted"  # its courier was lost on the last one
                continue
            try:
                target = open_target(self._keyring, hook)
            except SealBroken:
                one.next_at, one.last_error = None, "target_unreadable"  # deleted while the event was written down
                continue
            one.attempts += 1
            one.next_at = now + timedelta(seconds=pause)
            letters.append(Letter(one.id, one.attempts, target, _body(one)))
        return letters

    def _deliver(self, letter: Letter) -> None:
        try:
            error = send(letter, datetime.now(UTC), self._settings)
        except Exception as unforeseen:
            log_unforeseen("letter_not_sent", unforeseen)
            error = "internal_error"
        values: dict[str, object] = {"last_error": error}
        if error is None:
            values |= {"next_at": None, "delivered_at": datetime.now(UTC)}
        elif letter.attempt >= ATTEMPTS:
            values |= {"next_at": None}
        with self._database.write() as session:
            ours = update(WebhookDelivery).where(
                WebhookDelivery.id == letter.delivery_id,
                WebhookDelivery.attempts == letter.attempt,
                WebhookDelivery.delivered_at.is_(None),
            )
            session.execute(ours.values(**values))
        _log.info("letter_delivered" if error is None else "letter_returned", id=letter.delivery_id, error=error)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message: version 1 of the specification, HMAC-SHA256 over id, time and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret_key(secret), signed, hashlib.sha256)).decode()


def send(letter: Letter, now: datetime, settings: WorkerSettings) -> str | None:
    """Send one letter; returns None, or a word for why it was not taken. Follows no redirect and uses no proxy."""
    to_loopback, patience = settings.webhooks_to_loopback, settings.courier_patience_seconds
    timestamp = int(now.timestamp())
    headers = {
        "Host": urlsplit(letter.target.url).netloc,
        "Content-Type": "application/json",
        "User-Agent": "vivavoce-webhooks/1",
        "webhook-id": letter.delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(letter.target.secret, letter.delivery_id, timestamp, letter.body),
    }
    try:
        parts, host, port = split_url(letter.target.url, to_loopback)
        address = resolve(host, port, parts.scheme, to_loopback)
        plain = socket.create_connection((address, port), timeout=patience)
    except PolicyRefused as refusal:
        return refusal.code
    except OSError:
        return "not_reached"
    line = plain if parts.scheme == "http" else _over_tls(plain, host)
    # Patience with all of it, not with each read: a receiver that drips a byte at a time must not hold us.
    timer = threading.Timer(patience, _hang_up, [line])
    timer.start()
    try:
        if isinstance(line, ssl.SSLSocket):
            line.do_handshake()
        connection = http.client.HTTPConnection(host, port, timeout=patience)
        connection.auto_open = 0  # only to the address that was checked
        connection.sock = line
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, letter.body, headers)
        status = connection.getresponse().status
    except ssl.SSLError:
        return "tls_failed"
    except (OSError, http.client.HTTPException):
        return "no_answer"
    finally:
        timer.cancel()
        line.close()
    return None if 200 <= status < 300 else f"status_{status}"


def _over_tls(plain: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    return context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)


def _hang_up(line: socket.socket) -> None:
    # Of the socket itself: that of TLS would first let go of what the other thread is reading with.
    with suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)


def _due(now: datetime) -> ColumnElement[bool]:
    return WebhookDelivery.next_at <= now


def _body(one: WebhookDelivery) -> bytes:
    """Write an event down, always the same bytes: ids only, whoever reads them must ask us with a key for the rest."""
    told = {"type": one.event, "timestamp": one.created_at.isoformat(), "data": one.refs}
    return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()

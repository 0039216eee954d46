"""Logins at the console: an opaque token in a cookie, and only its digest in the ledger. The caller commits."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import delete, or_
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.console.accounts import actor
from vivavoce.ledger.accounts import Account, Login

IDLE = timedelta(minutes=30)
"""How long a login lasts after its last request."""
LONGEST = timedelta(hours=12)
"""How long it lasts at most."""
_SEEN_AGAIN = timedelta(minutes=1)
_TOKEN_BYTES = 32


def begin(session: Session, log: Log, account: Account, way: str, now: datetime) -> str:
    """Log an account in; returns the token, of 256 random bits.

    Args:
        way: `password` or `oidc`.
    """
    session.execute(delete(Login).where(or_(Login.seen_at <= now - IDLE, Login.created_at <= now - LONGEST)))
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    session.add(Login(digest=_digest(token), account_id=account.id, created_at=now, seen_at=now))
    entry = Entry(Tag.LOGIN_CREATE, None, actor(account.name), {"account": account.id}, {"way": way})
    log.append(session, entry)
    return token


def find(session: Session, token: str, now: datetime) -> tuple[Login, Account] | None:
    """Find who is logged in by a token; None if nobody is, any more or ever."""
    login = session.get(Login, _digest(token))
    if login is None or now - login.seen_at >= IDLE or now - login.created_at >= LONGEST:
        return None
    account = session.get_one(Account, login.account_id)
    return None if account.disabled_at is not None else (login, account)


def touch(session: Session, login: Login, now: datetime) -> None:
    """Write down that a login is in use; once a minute is enough."""
    if now - login.seen_at >= _SEEN_AGAIN:
        session.get_one(Login, login.digest).seen_at = now


def end(session: Session, log: Log, token: str, account_id: str, who: str) -> None:
    """Log out."""
    session.execute(delete(Login).where(Login.digest == _digest(token)))
    log.append(session, Entry(Tag.LOGIN_DELETE, None, who, {"account": account_id}))


def form_token(token: str) -> str:
    """Derive what every form of a login must carry: whoever knows it knows nothing of the login's own token."""
    return hmac.new(token.encode(), b"vivavoce form", hashlib.sha256).hexdigest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

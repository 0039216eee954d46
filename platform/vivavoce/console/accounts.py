"""Accounts of the console: made, disabled, given another password, recognised. The caller owns the transactions."""

from __future__ import annotations

import re
import threading
from datetime import datetime
from functools import cache

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.accounts import Account, Login, Role
from vivavoce.ledger.ids import new_id

LEAST_CHARACTERS, MOST_CHARACTERS = 12, 200
"""Length of a password; nothing else is asked of it (NIST SP 800-63B section 5.1.1.2)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,39}")
_hasher = PasswordHash((Argon2Hasher(),))  # Argon2id, 64 MiB
_memory = threading.BoundedSemaphore(2)
"""Passwords that are hashed at once: each takes 64 MiB."""


class AccountInvalid(ValueError):
    """A name or password that cannot be taken, or a name that is taken."""


class UnknownAccount(LookupError):
    """There is no account of this name."""


def actor(name: str) -> str:
    """Name an account as the log does."""
    return f"operator:{name}"


def create_account(session: Session, log: Log, name: str, role: Role, password: str, now: datetime, by: str) -> Account:
    """Enter an account with a password; raises `AccountInvalid`."""
    if not _NAME.fullmatch(name):
        raise AccountInvalid("a name has 2 to 40 of a-z, 0-9 and ._- and begins with a letter or digit")
    if session.scalars(select(Account.id).where(Account.name == name)).first() is not None:
        raise AccountInvalid(f"there is an account {name} already")
    hashed = _hash(password)
    account = Account(id=new_id("acct"), name=name, role=role, password_hash=hashed, created_at=now)
    session.add(account)
    log.append(session, Entry(Tag.ACCOUNT_CREATE, None, by, {"account": account.id}, {"role": str(role)}))
    return account


def disable_account(session: Session, log: Log, name: str, now: datetime, by: str) -> Account:
    """Let an account in no more, and end its logins; a second time changes nothing. Raises `UnknownAccount`."""
    account = _held(session, name)
    if account.disabled_at is None:
        account.disabled_at = now
        _changed(session, log, account, by, {"disabled": True})
    return account


def set_password(session: Session, log: Log, name: str, password: str, by: str) -> Account:
    """Give an account another password, and end its logins; raises `UnknownAccount` and `AccountInvalid`."""
    account = _held(session, name)
    if account.external is not None:
        raise AccountInvalid(f"{name} logs in elsewhere and has no password here")
    account.password_hash = _hash(password)
    _changed(session, log, account, by, {"password": True})
    return account


def recognise(session: Session, name: str, password: str) -> tuple[Account | None, str]:
    """Find the account that a name and password open.

    Returns:
        The account; or None and why not, as the log says it. It takes as long whether the name exists or not.
    """
    account = session.scalars(select(Account).where(Account.name == name)).one_or_none()
    known = account.password_hash if account is not None else None
    with _memory:
        fits = len(password) <= MOST_CHARACTERS and _hasher.verify(password, known or _of_nobody())
    if account is None or known is None:
        return None, "account_unknown"
    if not fits:
        return None, "password_wrong"
    return (account, "") if account.disabled_at is None else (None, "account_disabled")


@cache
def _of_nobody() -> str:
    """What an unknown account's password is compared with, so that the answer takes as long."""
    return _hasher.hash("of nobody")


def _hash(password: str) -> str:
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise AccountInvalid(f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters")
    return _hasher.hash(password)


def _held(session: Session, name: str) -> Account:
    account = session.scalars(select(Account).where(Account.name == name).with_for_update()).one_or_none()
    if account is None:
        raise UnknownAccount(name)
    return account


def _changed(session: Session, log: Log, account: Account, by: str, facts: dict[str, Json]) -> None:
    session.execute(delete(Login).where(Login.account_id == account.id))
    log.append(session, Entry(Tag.ACCOUNT_UPDATE, None, by, {"account": account.id}, facts))

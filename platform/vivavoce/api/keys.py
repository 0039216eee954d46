"""API keys: made, recognised and revoked. Only an HMAC of a key is stored; the key itself is shown once.

A key reads `vv_` + 43 characters of base 62 (256 random bits) + 6 characters of CRC-32 in base 62. The prefix lets
secret scanners find a leaked key, the checksum lets them and us tell a typing error from a guess without the database
(as GitHub's tokens do: https://github.blog/engineering/behind-githubs-new-authentication-token-formats/).
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.scopes import Scope
from vivavoce.api.tenants import UnknownTenant
from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import ApiKey, Tenant

PREFIX = "vv_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BITS = 256
_SECRET_CHARACTERS = 43  # 62**43 > 2**256
_CHECKSUM_CHARACTERS = 6  # 62**6 > 2**32
_SHOWN_CHARACTERS = len(PREFIX) + 8


class UnknownKey(LookupError):
    """There is no API key of this id."""


def create_key(
    session: Session,
    log: Log,
    keyring: KeyRing,
    *,
    tenant_id: str,
    name: str,
    scopes: Iterable[Scope],
    now: datetime,
    actor: str,
) -> tuple[ApiKey, str]:
    """Make a key; returns its row, and the key itself, which cannot be had again.

    Raises:
        UnknownTenant: Nobody of this id is entered.
    """
    if session.get(Tenant, tenant_id) is None:
        raise UnknownTenant(tenant_id)
    token = new_token()
    row = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        prefix=token[:_SHOWN_CHARACTERS],
        digest=keyring.digests(token.encode())[0],
        scopes=sorted(set(scopes)),
        created_at=now,
    )
    session.add(row)
    facts = {"scopes": row.scopes}
    log.append(session, Entry(Tag.KEY_CREATE, tenant_id, actor, {"key": row.id}, facts))
    return row, token


def revoke_key(session: Session, log: Log, key_id: str, now: datetime, actor: str) -> ApiKey:
    """Make a key worthless, at once and for ever; a second time changes nothing.

    Raises:
        UnknownKey: There is none of this id.
    """
    # NO KEY UPDATE: a job that is being admitted holds the log's lock and takes KEY SHARE on the row.
    row = session.get(ApiKey, key_id, with_for_update={"key_share": True})
    if row is None:
        raise UnknownKey(key_id)
    if row.revoked_at is None:
        row.revoked_at = now
        log.append(session, Entry(Tag.KEY_REVOKE, row.tenant_id, actor, {"key": row.id}, {}))
    return row


def find_key(session: Session, keyring: KeyRing, token: str) -> ApiKey | None:
    """Find the row of a key, revoked or not; None if we never issued it.

    The lookup is by HMAC: what the index compares is unrelated to what a guesser controls, so its timing tells nothing.
    """
    return session.scalars(select(ApiKey).where(ApiKey.digest.in_(keyring.digests(token.encode())))).one_or_none()


def new_token() -> str:
    """Make up a key."""
    secret = PREFIX + _base62(secrets.randbits(_SECRET_BITS), _SECRET_CHARACTERS)
    return secret + _checksum(secret)


def well_formed(token: str) -> bool:
    """Whether prefix, length, alphabet and checksum are those of a key."""
    body = token.removeprefix(PREFIX)
    secret, checksum = body[:_SECRET_CHARACTERS], body[_SECRET_CHARACTERS:]
    return (
        token.startswith(PREFIX)
        and len(body) == _SECRET_CHARACTERS + _CHECKSUM_CHARACTERS
        and set(body) <= set(_ALPHABET)
        and checksum == _checksum(PREFIX + secret)
    )


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))

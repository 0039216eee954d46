"""Invitations: a tenant sends a speaker an address, and the speaker reads the challenge aloud in their own browser.

A token is 256 random bits; only its HMAC is kept. The caller owns the transaction.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.challenge import Asked, ask, read_again, written
from vivavoce.consent.errors import ConsentRefused, LinkRefused
from vivavoce.consent.profiles import profile_of, require_permitted
from vivavoce.consent.statements import Reading, statement
from vivavoce.ledger.envelope import seal_plain, unseal_plain
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.rights import Challenge, Invitation
from vivavoce.ledger.tables import Consent, Subject

LIFETIME = timedelta(days=7)
MOST_ATTEMPTS = 10
"""Challenges that one invitation draws."""

_TOKEN = re.compile(r"vi_[A-Za-z0-9_-]{43}")
_HIDDEN = "this address opens nothing; ask whoever gave it to you for a new one"


def invite(
    session: Session, log: Log, keyring: KeyRing, asked: Asked, *, tenant_id: str, api_key_id: str, now: datetime
) -> tuple[Invitation, str]:
    """Make an invitation; returns its row, and the token, which cannot be had again.

    Raises:
        ConsentInvalid: There is no statement in the language, or the profile refuses the scope.
        LogUnavailable: The log cannot be written. There is no invitation.
    """
    require_permitted(profile_of(session, tenant_id), asked.scope)
    statement(asked.language)
    token, row_id = f"vi_{secrets.token_urlsafe(32)}", new_id("inv")
    row = Invitation(
        id=row_id,
        tenant_id=tenant_id,
        api_key_id=api_key_id,
        digest=_digests(keyring, token)[0],
        sealed=seal_plain(keyring, json.dumps(written(asked)).encode(), _place(row_id)),
        attempts=0,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    session.add(row)
    session.flush()
    log.append(session, Entry(Tag.INVITATION_CREATE, tenant_id, api_key_id, {"invitation": row_id}, {}))
    return row, token


def open_invitation(session: Session, keyring: KeyRing, token: str, now: datetime, *, lock: bool = False) -> Invitation:
    """Find what a token opens; raises `LinkRefused`."""
    if not _TOKEN.fullmatch(token):
        raise LinkRefused("link_unknown", _HIDDEN)
    wanted = select(Invitation).where(Invitation.digest.in_(_digests(keyring, token)))
    row = session.scalars(wanted.with_for_update(key_share=True) if lock else wanted).one_or_none()
    if row is None:
        raise LinkRefused("link_unknown", _HIDDEN)
    if row.closed_at is not None:
        raise LinkRefused("link_revoked", _HIDDEN)
    if now >= row.expires_at:
        raise LinkRefused("link_expired", _HIDDEN)
    return row


def asked_of(keyring: KeyRing, row: Invitation) -> Asked:
    """What a speaker is invited to."""
    return read_again(json.loads(unseal_plain(keyring, row.sealed, _place(row.id))))


def draw(session: Session, log: Log, keyring: KeyRing, row: Invitation, now: datetime) -> tuple[Challenge, Reading]:
    """Draw a challenge for an invited speaker, who holds the row.

    Raises:
        ConsentRefused: too_many_attempts.
    """
    if row.attempts >= MOST_ATTEMPTS:
        raise ConsentRefused("too_many_attempts", "this address has been used too often; ask for a new one")
    row.attempts += 1
    return ask(
        session, log, keyring, asked_of(keyring, row), tenant_id=row.tenant_id, actor=f"invited:{row.id}", now=now
    )


def speaker_of(session: Session, row: Invitation) -> Subject | None:
    """Who answered an invitation before, so that all their attempts are one person's; None for nobody."""
    if row.consent_id is None:
        return None
    subject = session.get_one(Subject, session.get_one(Consent, row.consent_id).subject_id)
    return None if subject.wrapped_key is None else subject


def close(row: Invitation, now: datetime) -> None:
    """Have an invitation open nothing any more, and forget whom it was for."""
    row.closed_at, row.sealed = now, b""


def _digests(keyring: KeyRing, token: str) -> list[str]:
    return keyring.digests(b"invitation 1\0" + token.encode())


def _place(invitation_id: str) -> bytes:
    return f"invitation.sealed:{invitation_id}".encode()

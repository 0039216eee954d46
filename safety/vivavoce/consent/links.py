"""Subject links: a speaker's way to their own consents, without an account. Whoever holds the link is the speaker.

A token is 256 random bits; only its HMAC is kept, so that a stolen database opens nothing. The caller owns the
transaction.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import LinkRefused
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.rights import SubjectLink
from vivavoce.ledger.tables import Consent

GRACE = timedelta(days=90)
"""How long a link outlives the last of the speaker's consents: what was made of them can still be read."""

_TOKEN_BYTES = 32
_TOKEN = re.compile(r"vs_[A-Za-z0-9_-]{43}")
_HIDDEN = "this link opens nothing; ask whoever gave it to you for a new one"


def create_link(
    session: Session, log: Log, keyring: KeyRing, consent: Consent, actor: str, now: datetime
) -> tuple[SubjectLink, str]:
    """Make a link for the speaker of a consent; returns its row, and the token, which cannot be had again.

    Raises:
        LogUnavailable: The log cannot be written. There is no link.
    """
    token = f"vs_{secrets.token_urlsafe(_TOKEN_BYTES)}"
    last = session.scalars(select(func.max(Consent.expires_at)).where(Consent.subject_id == consent.subject_id)).one()
    link = SubjectLink(
        id=new_id("link"),
        subject_id=consent.subject_id,
        tenant_id=consent.tenant_id,
        digest=_digests(keyring, token)[0],
        created_at=now,
        expires_at=max(last, now) + GRACE,
    )
    session.add(link)
    session.flush()
    refs = {"link": link.id, "consent": consent.id, "subject": consent.subject_id}
    facts = {"expires_at": link.expires_at.isoformat()}
    log.append(session, Entry(Tag.LINK_CREATE, link.tenant_id, actor, refs, facts))
    return link, token


def open_link(session: Session, keyring: KeyRing, token: str, now: datetime) -> SubjectLink:
    """Find what a token opens; raises `LinkRefused`."""
    link = None
    if _TOKEN.fullmatch(token):
        link = session.scalars(
            select(SubjectLink).where(SubjectLink.digest.in_(_digests(keyring, token)))
        ).one_or_none()
    if link is None:
        raise LinkRefused("link_unknown", _HIDDEN)
    if link.revoked_at is not None:
        raise LinkRefused("link_revoked", _HIDDEN)
    if now >= link.expires_at:
        raise LinkRefused("link_expired", _HIDDEN)
    return link


def revoke_link(session: Session, log: Log, link_id: str, tenant_id: str, actor: str, now: datetime) -> SubjectLink:
    """Make a link worthless, at once and for ever; a second time changes nothing.

    Raises:
        LinkRefused: `link_unknown`: there is none of this tenant.
    """
    link = session.get(SubjectLink, link_id, with_for_update={"key_share": True})
    if link is None or link.tenant_id != tenant_id:
        raise LinkRefused("link_unknown", "there is no such link")
    if link.revoked_at is None:
        link.revoked_at = now
        refs = {"link": link.id, "subject": link.subject_id}
        log.append(session, Entry(Tag.LINK_REVOKE, tenant_id, actor, refs))
    return link


def _digests(keyring: KeyRing, token: str) -> list[str]:
    # Another text than an API key's under the same pepper: one can never be the other's.
    return keyring.digests(b"subject link 1\0" + token.encode())

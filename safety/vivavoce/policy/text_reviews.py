"""Texts that a person must read first: a rule is met, and the tenant's profile leaves the answer to an admin.

A request with such a text is refused, and its text waits here, sealed. Once an admin has approved it, the same text of
the same tenant passes. What is kept of it then is a keyed digest. The caller owns the transactions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.envelope import seal_plain, unseal_plain
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.rights import TextReview
from vivavoce.policy.decisions import Decision, plain_reason
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text_judging import Hit

APPROVED_FOR = timedelta(days=90)
"""How long an approval counts."""
WAITS_FOR = timedelta(days=30)
"""How long a text waits to be read before it is forgotten; asking again begins anew."""
MOST_WAITING = 100
"""Texts of one tenant that wait at once; more are refused without being kept."""


def answer(session: Session, keyring: KeyRing, tenant_id: str, text: str, now: datetime) -> Decision | None:
    """Tell what an admin has said to a text; None if nobody has, or too long ago."""
    row = _find(session, keyring, tenant_id, text)
    if row is None or row.decided_at is None or row.decided_at + APPROVED_FOR <= now:
        return None
    return "approve" if row.decision == "approve" else "refuse"


def ask(
    session: Session, log: Log, keyring: KeyRing, tenant_id: str, text: str, hits: Sequence[Hit], actor: str,
    now: datetime,
) -> None:  # fmt: skip
    """Put a text before the admins, unless it lies there already or too many of the tenant's do."""
    row = _find(session, keyring, tenant_id, text)
    waiting = select(func.count()).where(TextReview.tenant_id == tenant_id, TextReview.decision.is_(None))
    if (row is not None and row.decision is None) or session.scalars(waiting).one() >= MOST_WAITING:
        return
    if row is None:
        row = TextReview(id=new_id("rev"), tenant_id=tenant_id, digest=_digests(keyring, tenant_id, text)[0])
        session.add(row)
    row.sealed = seal_plain(keyring, json.dumps(text).encode(), _place(row.id, "sealed"))
    row.rules = sorted({hit.rule for hit in hits})
    row.created_at = now
    row.decision = row.reason_sealed = row.decided_by = row.decided_at = None
    session.flush()
    facts = {"about": "text", "rules": row.rules}
    log.append(session, Entry(Tag.REVIEW_CREATE, tenant_id, actor, {"review": row.id}, facts))


def read_text(keyring: KeyRing, review: TextReview) -> str | None:
    """Unseal what is asked about; None once it has been decided."""
    if not review.sealed:
        return None
    return str(json.loads(unseal_plain(keyring, review.sealed, _place(review.id, "sealed"))))


def decide(
    session: Session, log: Log, keyring: KeyRing, review_id: str, decision: Decision, reason: str, actor: str,
    now: datetime,
) -> TextReview:  # fmt: skip
    """Answer for a text, once; the text itself goes, the reason is sealed.

    Raises:
        PolicyRefused: unknown_review, review_decided or reason_empty.
    """
    reason = plain_reason(reason)
    row = session.get(TextReview, review_id, with_for_update=True) if is_id(review_id) else None
    if row is None:
        raise PolicyRefused("unknown_review", "there is no such review")
    if row.decision is not None:
        raise PolicyRefused("review_decided", "the review has been decided")
    row.sealed = b""
    row.decision, row.decided_by, row.decided_at = decision, actor, now
    row.reason_sealed = seal_plain(keyring, reason.encode(), _place(row.id, "reason_sealed"))
    facts = {"about": "text", "decision": decision}
    log.append(session, Entry(Tag.REVIEW_DECIDE, row.tenant_id, actor, {"review": row.id}, facts))
    return row


def forget_unread(session: Session, now: datetime) -> None:
    """Take away texts that nobody has read in time."""
    session.execute(delete(TextReview).where(TextReview.decision.is_(None), TextReview.created_at <= now - WAITS_FOR))


def _find(session: Session, keyring: KeyRing, tenant_id: str, text: str) -> TextReview | None:
    same = select(TextReview).where(TextReview.digest.in_(_digests(keyring, tenant_id, text)))
    return session.scalars(same).one_or_none()


def _digests(keyring: KeyRing, tenant_id: str, text: str) -> list[str]:
    return keyring.digests(f"text-review:{tenant_id}:{text}".encode())


def _place(review_id: str, column: str) -> bytes:
    return f"text_review.{column}:{review_id}".encode()

"""Finding entries of the log: by whom and what they concern, by event, by time; newest first.

Leaves are never rewritten, and nothing but their place, tag and tenant is indexed. So a search reads them backwards
from where it stands, a bounded number at a time, and says where to go on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, literal, or_, select
from sqlalchemy.orm import Session

from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.rights import SubjectLink
from vivavoce.ledger.tables import AuditLeaf, Consent, Voice

READ_AT_ONCE = 100_000
"""Leaves that one search looks at."""


@dataclass(frozen=True)
class Query:
    """What to look for.

    Attributes:
        named: For each of these groups, one of its names must stand in the entry, as actor, tenant or reference.
        since: The first moment.
        until: The first moment after.
    """

    named: Sequence[Collection[str]] = ()
    tag: Tag | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Found:
    """Leaves, newest first, and before which index to go on; None where the log's beginning was reached."""

    leaves: list[AuditLeaf]
    before: int | None


def search(session: Session, log: Log, query: Query, before: int | None, limit: int) -> Found:
    """Look for at most `limit` entries whose index is below `before`; at the log's end for None."""
    first = 0 if query.since is None else _place(session, log, query.since)
    end = log.size(session) if query.until is None else _place(session, log, query.until)
    end = end if before is None else min(end, before)
    least = max(first, end - READ_AT_ONCE)
    wanted = select(AuditLeaf).where(AuditLeaf.index >= least, AuditLeaf.index < end)
    if query.tag is not None:
        wanted = wanted.where(AuditLeaf.tag == query.tag)
    for names in query.named:
        wanted = wanted.where(or_(*(_says(session, name) for name in sorted(names))))
    leaves = list(session.scalars(wanted.order_by(AuditLeaf.index.desc()).limit(limit + 1)))
    if len(leaves) > limit:
        return Found(leaves[:limit], leaves[limit - 1].index)
    return Found(leaves, least if least > first else None)


def names_of_person(session: Session, subject_id: str) -> set[str]:
    """Give all names under which the log speaks of a person, but for the jobs: these name a voice, too."""
    consents = set(session.scalars(select(Consent.id).where(Consent.subject_id == subject_id)))
    voices = session.scalars(select(Voice.id).where(Voice.consent_id.in_(consents)))
    links = session.scalars(select(SubjectLink.id).where(SubjectLink.subject_id == subject_id))
    return {subject_id, *consents, *voices, *(f"subject:{link}" for link in links)}


def _place(session: Session, log: Log, moment: datetime) -> int:
    """Find the first leaf that is not older than a moment, by halving: leaves stand in the order of time."""
    low, high = 0, log.size(session)
    while low < high:
        middle = (low + high) // 2
        if session.scalars(select(AuditLeaf.created_at).where(AuditLeaf.index == middle)).one() < moment:
            low = middle + 1
        else:
            high = middle
    return low


def _says(session: Session, name: str) -> ColumnElement[bool]:
    # Canonical JSON writes a name in one way, so its bytes can be looked for.
    needle = literal(json.dumps(name, ensure_ascii=False).encode())
    if session.get_bind().dialect.name == "postgresql":
        return func.pg_catalog.position(AuditLeaf.data, needle) > 0
    return func.instr(AuditLeaf.data, needle) > 0

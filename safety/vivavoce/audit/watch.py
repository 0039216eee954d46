"""Whether the log is whole and fresh: what an operator's monitoring asks every few minutes.

Broken is what cannot be repaired by waiting: rows missing, heads that contradict the rows or one another, fewer leaves
than once were signed. Stale is what signing a head repairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vivavoce.audit.errors import HeadConflict, LogBroken
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.ledger.tables import AuditCheckpoint, AuditLeaf, AuditNode


@dataclass(frozen=True)
class Health:
    """State of the log.

    Attributes:
        broken: What contradicts itself, in plain words.
        stale: What is late, in plain words.
    """

    size: int
    signed: int
    head_time: datetime | None
    broken: tuple[str, ...]
    stale: tuple[str, ...]


def examine(session: Session, log: Log, heads: Heads, now: datetime, max_age: timedelta) -> Health:
    """Look for gaps, contradictions and staleness. Counts rows, reads no leaf's data: `audit verify` does that.

    Args:
        max_age: How long leaves may wait for a signed head, and a head for being kept outside.
    """
    try:
        # Before the session's first look: what is signed and kept meanwhile must not seem to be missing.
        kept, unreadable = heads.last(), []
    except HeadConflict as error:
        kept, unreadable = None, [str(error)]
    size = log.size(session)
    last = session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)).first()
    signed = last.size if last else 0
    broken = _gaps(session, size) + unreadable
    if last:
        broken += _contradictions(session, log, last)
    if kept:
        broken += _put_back(session, log, kept, signed)
    stale = []
    oldest = session.scalar(select(AuditLeaf.created_at).where(AuditLeaf.index == signed)) if signed < size else None
    if oldest and now - oldest > max_age:
        stale.append(f"leaf {signed} has waited for a signed head since {oldest:%Y-%m-%d %H:%M:%S} UTC")
    if last and signed > (kept.size if kept else 0) and now - last.created_at > max_age:
        stale.append(f"the head of {signed} leaves is not kept outside the database")
    head_time = last.created_at if last else None
    return Health(size, signed, head_time, tuple(broken), tuple(stale))


def _gaps(session: Session, size: int) -> list[str]:
    found = []
    rows = session.scalar(select(func.count()).select_from(AuditLeaf)) or 0
    if rows != size:
        following = select(AuditLeaf.index + 1)
        ends = following.where((AuditLeaf.index + 1).not_in(select(AuditLeaf.index))).order_by(AuditLeaf.index).limit(1)
        starts = session.scalar(select(func.min(AuditLeaf.index)))
        first = 0 if starts else session.scalar(ends)
        found.append(f"{size - rows} leaves are missing, the first is leaf {first}")
    # Level k holds floor(n / 2**k) nodes.
    kept = dict(session.execute(select(AuditNode.level, func.count()).group_by(AuditNode.level)).all())
    levels = range(1, max([size.bit_length() - 1, *kept]) + 1)
    return found + [
        f"level {level} of the tree has {kept.get(level, 0)} nodes instead of {size >> level}"
        for level in levels
        if kept.get(level, 0) != size >> level
    ]


def _contradictions(session: Session, log: Log, last: AuditCheckpoint) -> list[str]:
    try:
        log.require_beginning(session, log.signed(last))
    except LogBroken as error:
        return [str(error)]
    return []


def _put_back(session: Session, log: Log, kept: Checkpoint, signed: int) -> list[str]:
    try:
        log.require_beginning(session, kept)
    except LogBroken as error:
        return [f"not what the head that is kept outside says, the database was put back or changed: {error}"]
    if kept.size > signed:
        return [f"a head of {kept.size} leaves is kept outside, the database has forgotten it"]
    return []

"""`/console`: how the installation is, on one page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vivavoce.api.services import Here, Services, now
from vivavoce.audit.heads import Heads
from vivavoce.audit.tags import Tag
from vivavoce.console.desk import Reader, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.ledger.rights import Review, TextReview
from vivavoce.ledger.tables import AuditCheckpoint, AuditLeaf, Consent, Job, JobStatus
from vivavoce.ledger.workers import present

router = APIRouter(tags=["console"], include_in_schema=False)

_LATELY = timedelta(days=1)
_MOST_LEAVES = 10_000
_REFUSALS = (
    *(Tag.AUTH_REFUSE, Tag.JOB_REFUSE, Tag.CONSENT_REFUSE, Tag.VOICE_REFUSE, Tag.CHALLENGE_REFUSE),
    *(Tag.JOB_OUTCOME, Tag.OUTPUT_WITHHOLD),
)
"""Entries that may say that something was refused; they carry its code."""


@dataclass(frozen=True)
class LogState:
    """How far the log is signed, and seen by others."""

    leaves: int
    signed: int
    signed_at: datetime | None
    cosigned: int | None


@router.get(CONSOLE)
def overview(operator: Reader, here: Here) -> Response:
    """Show jobs, refusals, queue, workers and log."""
    write_down(here, operator, Tag.LEDGER_READ, {})
    moment = now()
    with here.database.read() as session:
        counts: dict[str, int] = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
        oldest = session.scalar(select(func.min(Job.created_at)).where(Job.status == JobStatus.QUEUED))
        waiting = select(func.count()).select_from(Review).where(Review.decision.is_(None))
        unread = select(func.count()).select_from(TextReview).where(TextReview.decision.is_(None))
        consents = select(Consent.status, func.count()).group_by(Consent.status).order_by(Consent.status)
        return show(
            "overview.html",
            operator,
            jobs=[(status.value, counts.get(status, 0)) for status in JobStatus],
            queued=counts.get(JobStatus.QUEUED, 0),
            oldest=None if oldest is None else moment - oldest,
            refusals=_refusals(session, moment),
            workers=present(session, moment),
            reviews=session.scalar(waiting) or 0,
            texts=session.scalar(unread) or 0,
            consents=session.execute(consents).all(),
            log=_log_state(session, here),
            moment=moment,
        )


def _refusals(session: Session, moment: datetime) -> list[tuple[str, str, int]]:
    """Count the last day's refusals by what was refused and why, the most frequent first."""
    lately = select(AuditLeaf.tag, AuditLeaf.data).where(AuditLeaf.created_at > moment - _LATELY)
    lately = lately.where(AuditLeaf.tag.in_(_REFUSALS)).order_by(AuditLeaf.index.desc()).limit(_MOST_LEAVES)
    found: Counter[tuple[str, str]] = Counter()
    for tag, data in session.execute(lately):
        facts = json.loads(data)["facts"]
        if tag == Tag.JOB_OUTCOME and facts.get("status") != JobStatus.REFUSED:
            continue
        found[tag.partition(":")[0], str(facts.get("code") or facts.get("reason") or "unknown")] += 1
    return [(subject, code, count) for (subject, code), count in found.most_common()]


def _log_state(session: Session, here: Services) -> LogState:
    head = session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)).first()
    return LogState(
        leaves=here.log.size(session),
        signed=head.size if head else 0,
        signed_at=head.created_at if head else None,
        cosigned=Heads(here.store, *here.log.verifiers).last_cosigned(),
    )

"""`/v1/usage`: what a tenant has asked for and got, by day and key, counted in the registry itself."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, String, and_, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute, Session

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.problems import Problem
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, now
from vivavoce.audit.tags import Tag
from vivavoce.ledger.tables import AuditLeaf, Job, JobStatus, Output

router = APIRouter(prefix="/v1/usage", tags=["usage"])

DEFAULT_DAYS = 30
MOST_DAYS = 92

Moment = InstrumentedAttribute[datetime]
Counts = defaultdict[tuple[str, str], dict[str, float]]
"""What was counted, by day and key."""


class Used(BaseModel):
    """What was asked for and what came of it."""

    requests: int = 0
    """Requests for speech, conversion and detection, those that were refused at once included."""
    succeeded: int = 0
    refused: int = 0
    """By consent, text rules or the mark, at once or later."""
    failed: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    """Length of the sound that was made."""


class UsedByKey(Used):
    """What one key asked for on one day."""

    day: date
    """In UTC, by when it was asked for."""
    key: str


class UsageView(BaseModel):
    """What a tenant used from one day to another, both included."""

    object: Literal["usage"] = "usage"
    first_day: date
    last_day: date
    total: Used
    data: list[UsedByKey]
    """Days and keys with at least one request, oldest first."""


@router.get("")
def read(
    caller: Annotated[Caller, allowed(Scope.JOBS_READ)],
    here: Here,
    first_day: Annotated[date | None, Query(description=f"By default {DEFAULT_DAYS} days with the last.")] = None,
    last_day: Annotated[date | None, Query(description="By default today (UTC).")] = None,
    key: Annotated[str | None, Query(pattern=r"^key_[0-9a-z]{26}$", description="Only this key.")] = None,
) -> UsageView:
    """Count what the tenant's keys have asked for, and the seconds of sound that came of it."""
    last = last_day or now().date()
    first = first_day or max(date.min + timedelta(days=DEFAULT_DAYS), last) - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise Problem(422, "range_invalid", f"Ask for 1 to {MOST_DAYS} days, the first before the last.")
    with here.database.read() as session:
        counts = _count(session, caller.tenant_id, first, last)
    days = [
        UsedByKey.model_validate({"day": day, "key": who} | found)
        for (day, who), found in sorted(counts.items())
        if key in (None, who)
    ]
    total = {name: sum(getattr(day, name) for day in days) for name in Used.model_fields}
    return UsageView(first_day=first, last_day=last, total=Used(**total), data=days)


def _count(session: Session, tenant_id: str, first: date, last: date) -> Counts:
    """Sum up jobs, their outputs, and what never became a job."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    jobs = _day(session, Job.created_at)
    mine = and_(Job.tenant_id == tenant_id, _between(Job.created_at, first, last))
    asked = select(jobs, Job.api_key_id, Job.status, func.count()).where(mine)
    for day, key, status, number in session.execute(asked.group_by(jobs, Job.api_key_id, Job.status)):
        counts[day, key]["requests"] += number
        if JobStatus(status).final:
            counts[day, key][status] += number
    made = select(jobs, Job.api_key_id, func.sum(Output.seconds)).join(Output, Output.job_id == Job.id).where(mine)
    for day, key, seconds in session.execute(made.group_by(jobs, Job.api_key_id)):
        counts[day, key]["seconds"] = round(seconds, 3)
    leaves, actor = _day(session, AuditLeaf.created_at), _actor(session)
    turned_away = select(leaves, actor, func.count()).where(
        AuditLeaf.tag == Tag.JOB_REFUSE,
        AuditLeaf.tenant_id == tenant_id,
        _between(AuditLeaf.created_at, first, last),
    )
    for day, key, number in session.execute(turned_away.group_by(leaves, actor)):
        counts[day, key]["requests"] += number
        counts[day, key]["refused"] += number
    return counts


def _between(moment: Moment, first: date, last: date) -> ColumnElement[bool]:
    start, end = (datetime.combine(day, clock, UTC) for day, clock in ((first, time.min), (last, time.max)))
    return moment.between(start, end)


def _day(session: Session, moment: Moment) -> ColumnElement[str]:
    """Day of a moment in UTC, YYYY-MM-DD."""
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD")
    return func.substr(cast(moment, String), 1, 10)  # SQLite keeps moments as text, in UTC


def _actor(session: Session) -> Any:  # noqa: ANN401 - of another type on each database
    """Who did what an entry of the log tells."""
    if session.get_bind().dialect.name == "postgresql":
        actor: ColumnElement[Any] = cast(func.convert_from(AuditLeaf.data, "UTF8"), JSONB)["actor"].astext
        return actor
    return func.json_extract(cast(AuditLeaf.data, String), "$.actor")

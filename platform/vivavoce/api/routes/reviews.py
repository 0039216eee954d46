"""`/v1/reviews`: voices that sound like somebody who must be protected, and texts; admins decide, with a reason."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services, now
from vivavoce.api.shapes import After, Body, Limit, Page, page
from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.tags import Tag
from vivavoce.ledger.rights import Review, TextReview
from vivavoce.policy import text_reviews
from vivavoce.policy.decisions import Decision
from vivavoce.policy.likeness import About, about, decide

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])

Admin = Annotated[Caller, allowed(Scope.ADMIN)]


class ReviewView(BaseModel):
    """A question about a voice."""

    id: str
    voice: str
    tenant: str
    about: About
    """Whether the clips are of who consented, the consent is of one speaker; or whom the voice sounds like."""
    protected_voice: str | None
    other_voice: str | None
    similarity: float
    threshold: float
    model: str
    created_at: datetime
    decision: Decision | None
    decided_by: str | None
    decided_at: datetime | None


class TextReviewView(BaseModel):
    """A question about a text."""

    id: str
    tenant: str
    text: str | None
    """None once it was decided."""
    rules: list[str]
    created_at: datetime
    decision: Decision | None
    decided_by: str | None
    decided_at: datetime | None


class Decided(Body):
    """An answer, with its reason, which is sealed."""

    decision: Decision
    reason: str


@router.get("")
def read_all(caller: Admin, here: Here, after: After = None, limit: Limit = 20) -> Page[ReviewView]:
    """List reviews of all tenants, newest first. The reading is logged."""
    statement = select(Review).order_by(Review.id.desc())
    if after is not None:
        statement = statement.where(Review.id < after)
    with here.database.write() as session:
        views = [_view(session, review) for review in session.scalars(statement.limit(limit + 1))]
        facts = {"listed": min(limit, len(views))}
        here.log.append(session, Entry(Tag.REVIEW_READ, caller.tenant_id, caller.key_id, {}, facts))
    return page(views, limit, [view.id for view in views])


@router.get("/texts")
def read_texts(caller: Admin, here: Here, after: After = None, limit: Limit = 20) -> Page[TextReviewView]:
    """List texts of all tenants that met a rule, newest first. The reading is logged."""
    statement = select(TextReview).order_by(TextReview.id.desc())
    if after is not None:
        statement = statement.where(TextReview.id < after)
    with here.database.write() as session:
        views = [_text_view(here, review) for review in session.scalars(statement.limit(limit + 1))]
        facts: dict[str, Json] = {"about": "text", "listed": min(limit, len(views))}
        here.log.append(session, Entry(Tag.REVIEW_READ, caller.tenant_id, caller.key_id, {}, facts))
    return page(views, limit, [view.id for view in views])


@router.post("/texts/{review_id}")
def answer_text(review_id: str, body: Decided, caller: Admin, here: Here) -> TextReviewView:
    """Approve a text, so that its tenant may have it spoken for 90 days, or refuse it."""
    with here.database.write() as session:
        return _text_view(
            here,
            text_reviews.decide(
                session, here.log, here.keyring, review_id, body.decision, body.reason, caller.key_id, now()
            ),
        )


@router.post("/{review_id}")
def answer(review_id: str, body: Decided, caller: Admin, here: Here) -> ReviewView:
    """Approve or refuse a voice, once and for all."""
    with here.database.write() as session:
        return _view(
            session,
            decide(session, here.log, here.keyring, review_id, body.decision, body.reason, caller.key_id, now()),
        )


def _text_view(here: Services, review: TextReview) -> TextReviewView:
    return TextReviewView(
        id=review.id,
        tenant=review.tenant_id,
        text=text_reviews.read_text(here.keyring, review),
        rules=review.rules,
        created_at=review.created_at,
        decision=review.decision,  # type: ignore[arg-type]  # a column
        decided_by=review.decided_by,
        decided_at=review.decided_at,
    )


def _view(session: Session, review: Review) -> ReviewView:
    return ReviewView(
        id=review.id,
        voice=review.voice_id,
        tenant=review.tenant_id,
        about=about(session, review),
        protected_voice=review.protected_id,
        other_voice=review.other_voice_id,
        similarity=round(review.similarity, 4),
        threshold=review.threshold,
        model=review.model,
        created_at=review.created_at,
        decision=review.decision,  # type: ignore[arg-type]  # a column
        decided_by=review.decided_by,
        decided_at=review.decided_at,
    )

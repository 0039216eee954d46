"""`/console/reviews`: voices that may be somebody else's, and texts that met a rule; a person decides, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services, now
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import open_recording
from vivavoce.consent.voices import open_clip
from vivavoce.console.desk import CONSOLE_HEADERS, Reader, Reviewer, Sent, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.ledger.errors import Erased, ObjectMissing
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.rights import Review, TextReview
from vivavoce.ledger.tables import Consent, ReferenceClip, Subject, Tenant, Voice
from vivavoce.policy import text_reviews
from vivavoce.policy.decisions import Decision
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.likeness import About, about, decide
from vivavoce.policy.text_judging import rules
from vivavoce.sound.containers import identify

router = APIRouter(prefix=f"{CONSOLE}/reviews", tags=["console"], include_in_schema=False)

Side = Literal["asked", "compared"]
_MEDIA_TYPES = {"adts": "audio/aac", "mp3": "audio/mpeg"}
_MOST_DECIDED = 50


class Decided(Sent):
    """An answer, with its reason, which is sealed."""

    decision: Decision
    reason: str


_READ = "What its speaker read to consent"
_QUESTIONS: dict[About, tuple[str, str, str]] = {
    "protected_voice": (
        "Like a protected voice",
        "The voice sounds like one of the no-go register. Of that one no recording is kept, only numbers.",
        _READ,
    ),
    "another_tenant": (
        "Like another tenant's voice",
        "Another tenant has consent for a voice that sounds like this one. Is it the same person?",
        "The other tenant's voice",
    ),
    "own_consent": ("Clip and consent differ", "The clip may not be of who consented. Is it the same person?", _READ),
    "joined_recording": (
        "Consent of two voices",
        "Parts of what was read to consent do not sound alike. Does one person speak throughout, in one place?",
        _READ,
    ),
}


@dataclass(frozen=True)
class Question:
    """What a review asks, and what is heard on its other side."""

    title: str
    why: str
    compared: str
    compared_voice: str | None
    """The voice whose clip is compared; the consent's own recording for None."""


@router.get("")
def read_all(operator: Reader, here: Here) -> Response:
    """List the reviews that wait, oldest first, and the last that were decided."""
    write_down(here, operator, Tag.REVIEW_READ, {})
    with here.database.read() as session:
        waiting = session.scalars(select(Review).where(Review.decision.is_(None)).order_by(Review.id)).all()
        decided = select(Review).where(Review.decision.is_not(None)).order_by(Review.decided_at.desc())
        return show(
            "reviews.html",
            operator,
            waiting=[(review, question(session, review)) for review in waiting],
            decided=[(review, question(session, review)) for review in session.scalars(decided.limit(_MOST_DECIDED))],
        )


@router.get("/texts")
def read_texts(operator: Reader, here: Here) -> Response:
    """List the texts that wait to be read, oldest first, and the last that were decided."""
    write_down(here, operator, Tag.REVIEW_READ, {}, {"about": "text"})
    with here.database.read() as session:
        waiting = session.scalars(select(TextReview).where(TextReview.decision.is_(None)).order_by(TextReview.id))
        decided = select(TextReview).where(TextReview.decision.is_not(None)).order_by(TextReview.decided_at.desc())
        return show(
            "review_texts.html",
            operator,
            waiting=[(review, text_reviews.read_text(here.keyring, review)) for review in waiting],
            decided=session.scalars(decided.limit(_MOST_DECIDED)).all(),
            explanations={rule.id: rule.explanation for rule in rules().rules},
        )


@router.post("/texts/{review_id}")
def answer_text(review_id: str, form: Annotated[Decided, Form()], operator: Reviewer, here: Here) -> Response:
    """Approve or refuse a text, once."""
    with here.database.write() as session:
        text_reviews.decide(
            session, here.log, here.keyring, review_id, form.decision, form.reason, operator.actor, now()
        )
    return RedirectResponse(f"{CONSOLE}/reviews/texts", 303)


@router.get("/{review_id}")
def read(review_id: str, operator: Reader, here: Here) -> Response:
    """Show a review with both recordings."""
    with here.database.read() as session:
        review = _find(session, review_id)
    write_down(here, operator, Tag.REVIEW_READ, {"review": review.id})
    with here.database.read() as session:
        voice = session.get_one(Voice, review.voice_id)
        tenant = session.get_one(Tenant, review.tenant_id)
        return show("review.html", operator, review=review, voice=voice, tenant=tenant, asks=question(session, review))


@router.get("/{review_id}/recordings/{side}")
def hear(review_id: str, side: Side, operator: Reviewer, here: Here) -> Response:
    """Hand out one of the two recordings; the reading is logged first."""
    with here.database.read() as session:
        review = _find(session, review_id)
        voice_id = review.voice_id if side == "asked" else review.other_voice_id
        consent = session.get_one(Consent, session.get_one(Voice, voice_id or review.voice_id).consent_id)
    refs = {"review": review.id, "consent": consent.id, "subject": consent.subject_id}
    refs |= {"voice": voice_id} if voice_id else {}
    write_down(here, operator, Tag.RECORDING_READ, refs, tenant_id=consent.tenant_id)
    data = _recording(here, consent.id, voice_id)
    kind = identify(data) or "wav"
    media_type = _MEDIA_TYPES.get(kind, f"audio/{kind}")
    # door: a recording that a speaker handed in, nothing that was made here
    return Response(data, media_type=media_type, headers=CONSOLE_HEADERS)


@router.post("/{review_id}")
def answer(review_id: str, form: Annotated[Decided, Form()], operator: Reviewer, here: Here) -> Response:
    """Approve or refuse a voice, once and for all."""
    with here.database.write() as session:
        decide(session, here.log, here.keyring, review_id, form.decision, form.reason, operator.actor, now())
    return RedirectResponse(f"{CONSOLE}/reviews", 303)


def question(session: Session, review: Review) -> Question:
    """Put a review into words."""
    title, why, compared = _QUESTIONS[about(session, review)]
    return Question(title, why, compared, review.other_voice_id)


def _find(session: Session, review_id: str) -> Review:
    review = session.get(Review, review_id) if is_id(review_id) else None
    if review is None:
        raise PolicyRefused("unknown_review", "there is no such review")
    return review


def _recording(here: Services, consent_id: str, voice_id: str | None) -> bytes:
    try:
        with here.database.read() as session:
            consent = session.get_one(Consent, consent_id)
            subject = session.get_one(Subject, consent.subject_id)
            if voice_id is None:
                return open_recording(consent, subject, here.store, here.keyring)
            clips = select(ReferenceClip).where(ReferenceClip.voice_id == voice_id).order_by(ReferenceClip.id)
            return open_clip(session.scalars(clips.limit(1)).one(), subject, here.store, here.keyring)[0]
    except (Erased, ObjectMissing) as error:
        raise Problem(404, "recording_gone", "The recording is gone: its speaker left, or its time is over.") from error

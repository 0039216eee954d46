"""Texts that a person must read first: refused until an admin has approved that very text for that very tenant."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from tests.consent.world import NOW, World

from vivavoce.ledger.rights import TextReview
from vivavoce.ledger.tables import Job, Tenant
from vivavoce.policy import text_reviews
from vivavoce.policy.admission import refuse
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text_reviews import APPROVED_FOR, MOST_WAITING, WAITS_FOR, decide, forget_unread, read_text

THREAT = "I will kill you tonight, Jane."


@pytest.fixture
def voice(world: World) -> str:
    with world.database.write() as session:
        session.get_one(Tenant, world.account.tenant_id).profile = "eu"
    return world.voice(world.consent())


def send(world: World, voice: str, text: str = THREAT, now: datetime = NOW, **request: str) -> Job | str:
    """Ask for a text as the API does: a refusal is a transaction of its own."""
    submission = world.submission(voice, request={"text": text} | request)
    try:
        return world.admit(submission, now)
    except PolicyRefused as refusal:
        with world.database.write() as session:
            refuse(session, world.log, world.keyring, submission, refusal.code, now)
        return refusal.code


def reviews(world: World) -> list[TextReview]:
    with world.database.read() as session:
        return list(session.scalars(select(TextReview).order_by(TextReview.id)))


def answer(world: World, review: TextReview, decision: str, reason: str = "a line of a play") -> None:
    with world.database.write() as session:
        decide(session, world.log, world.keyring, review.id, decision, reason, "key_admin", NOW)  # type: ignore[arg-type]


def test_refused_until_it_is_approved(world: World, voice: str) -> None:
    assert send(world, voice) == "text_needs_review"
    assert send(world, voice, f"  {THREAT}\r\n") == "text_needs_review", "the same text"
    (review,) = reviews(world)
    assert read_text(world.keyring, review) == THREAT
    assert isinstance(send(world, voice, "Good morning, Jane."), Job)
    answer(world, review, "approve")
    assert isinstance(send(world, voice), Job)
    assert send(world, voice, THREAT + " Tomorrow.") == "text_needs_review", "another text"
    assert send(world, voice, now=NOW + APPROVED_FOR) == "text_needs_review", "an approval of long ago"
    assert [row.decision for row in reviews(world)] == [None, None]


def test_what_was_refused_is_blocked(world: World, voice: str) -> None:
    send(world, voice)
    answer(world, reviews(world)[0], "refuse", "a threat")
    assert send(world, voice) == "text_blocked"
    assert len(reviews(world)) == 1, "and nobody is asked again"


def test_instructions_are_asked_about_too(world: World, voice: str) -> None:
    assert send(world, voice, "Good morning.", instructions=THREAT) == "text_needs_review"
    assert [read_text(world.keyring, row) for row in reviews(world)] == [THREAT]


def test_an_approval_is_one_tenants_own(world: World, voice: str) -> None:
    send(world, voice)
    answer(world, reviews(world)[0], "approve")
    with world.database.read() as session:
        said = text_reviews.answer(session, world.keyring, world.account.tenant_id, THREAT, NOW)
        assert said == "approve"
        assert text_reviews.answer(session, world.keyring, "ten_other", THREAT, NOW) is None


def test_what_is_blocked_is_put_before_nobody(world: World, voice: str) -> None:
    assert send(world, voice, "Tell me your verification code.") == "text_blocked"
    assert reviews(world) == []


def test_decided_once_with_a_reason_and_the_text_is_gone(world: World, voice: str) -> None:
    send(world, voice)
    (review,) = reviews(world)
    with pytest.raises(PolicyRefused, match="reason_empty"):
        answer(world, review, "approve", " \n ")
    answer(world, review, "approve")
    with pytest.raises(PolicyRefused, match="review_decided"):
        answer(world, review, "refuse")
    (after,) = reviews(world)
    assert read_text(world.keyring, after) is None and THREAT.encode() not in after.sealed
    (asked,), (decided,) = world.leaves("review:create"), world.leaves("review:decide")
    assert asked["facts"] == {"about": "text", "rules": after.rules} and after.rules
    assert (decided["actor"], decided["facts"]) == ("key_admin", {"about": "text", "decision": "approve"})
    assert "Jane" not in json.dumps(world.leaves()) and "play" not in json.dumps(world.leaves())


def test_a_tenant_cannot_bury_the_admins(world: World, voice: str) -> None:
    for number in range(MOST_WAITING + 3):
        assert send(world, voice, f"{THREAT} {number}") == "text_needs_review"
    assert len(reviews(world)) == MOST_WAITING
    with world.database.write() as session:
        forget_unread(session, NOW + WAITS_FOR - timedelta(seconds=1))
    assert len(reviews(world)) == MOST_WAITING
    with world.database.write() as session:
        forget_unread(session, NOW + WAITS_FOR)
    assert reviews(world) == []

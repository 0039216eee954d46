"""Challenges: one sentence, one recording, some minutes. Whoever comes twice or late is told so, and logged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tests.consent.world import NOW, RECORDING, World

from vivavoce.consent import ConsentInvalid, ConsentRefused, Scope
from vivavoce.consent import challenge as challenges
from vivavoce.consent.challenge import LIFETIME, Asked, answer, ask
from vivavoce.consent.service import authorize
from vivavoce.consent.statements import Reading
from vivavoce.ledger.rights import Challenge
from vivavoce.ledger.tables import Consent

ASKED = Asked("Jane Reader", "en", Scope(lifetime=timedelta(days=30)), None)


def drawn(world: World, asked: Asked = ASKED) -> tuple[str, Reading]:
    with world.database.write() as session:
        row, shown = ask(
            session, world.log, world.keyring, asked, tenant_id=world.account.tenant_id, actor="key_1", now=NOW
        )  # fmt: skip
        return row.id, shown


def answered(world: World, challenge_id: str, now: datetime = NOW, tenant: str = "") -> str:
    with world.database.write() as session:
        consent, _ = answer(
            session, world.log, world.store, world.keyring, challenge_id, RECORDING,
            tenant_id=tenant or world.account.tenant_id, actor="key_1", now=now,
        )  # fmt: skip
        return consent.id


def refusal(world: World, challenge_id: str, now: datetime = NOW, tenant: str = "") -> str:
    with pytest.raises(ConsentRefused) as caught:
        answered(world, challenge_id, now, tenant)
    return caught.value.code


def test_what_is_shown_names_speaker_company_and_day_and_is_logged_without_them(world: World) -> None:
    _, shown = drawn(world)
    last = NOW + timedelta(days=30)
    for said in ("I, Jane Reader, ", " that tenant may ", f"until {last.day} {last:%B %Y}."):
        assert said in shown.text
    assert all(word in shown.text for word in shown.words) and len(set(shown.words)) == 4
    (leaf,) = world.leaves("challenge:create")
    assert leaf["facts"]["notice_sha256"] and leaf["facts"]["statement_sha256"]
    assert "Jane" not in str(leaf) and shown.words[0] not in str(leaf)


def test_answered_it_is_a_consent_that_waits(world: World) -> None:
    challenge_id, _ = drawn(world)
    consent_id = answered(world, challenge_id, NOW + timedelta(minutes=1))
    with world.database.read() as session:
        consent = session.get_one(Consent, consent_id)
        assert (consent.status, consent.assurance, consent.decided_at) == ("pending", "challenge", None)
        last = (NOW + timedelta(days=30)).astimezone(UTC).date()
        assert consent.expires_at.date() <= last
        assert session.get_one(Challenge, challenge_id).sealed == b""
    voice = world.voice(consent_id)
    with world.database.read() as session, pytest.raises(ConsentRefused, match="consent_pending"):
        authorize(
            session, tenant_id=world.account.tenant_id, voice_id=voice, operation="speech", purpose="general", now=NOW
        )  # fmt: skip


def test_a_challenge_is_answered_once(world: World) -> None:
    challenge_id, _ = drawn(world)
    answered(world, challenge_id)
    assert refusal(world, challenge_id) == "challenge_used"


def test_of_many_answers_at_once_one_counts(world: World) -> None:
    challenge_id, _ = drawn(world)

    def attempt(_: int) -> str:
        try:
            return answered(world, challenge_id)
        except ConsentRefused as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(attempt, range(4)))
    assert sorted(ends)[:3] == ["challenge_used"] * 3 and world.count("consent") == 1


def test_a_challenge_lives_for_minutes(small_world: World) -> None:
    challenge_id, _ = drawn(small_world)
    assert refusal(small_world, challenge_id, NOW + LIFETIME) == "challenge_expired"
    assert refusal(small_world, challenge_id, NOW - timedelta(seconds=1)) == "challenge_expired"  # a clock gone back
    assert answered(small_world, challenge_id, NOW + LIFETIME - timedelta(seconds=1))


def test_another_tenants_challenge_is_unknown(small_world: World) -> None:
    challenge_id, _ = drawn(small_world)
    other = small_world.join("another")
    assert refusal(small_world, challenge_id, tenant=other.tenant_id) == "unknown_challenge"
    assert refusal(small_world, "chal_nothing") == "unknown_challenge"


def test_a_profile_refuses_before_anybody_reads(small_world: World) -> None:
    with pytest.raises(ConsentInvalid, match="lifetime_out_of_range"):
        drawn(small_world, Asked("Jane", "en", Scope(lifetime=timedelta(days=3000)), None))
    with pytest.raises(ConsentInvalid, match="statement_unknown"):
        drawn(small_world, Asked("Jane", "xx", Scope(), None))
    assert small_world.count("challenge") == 0


def test_two_challenges_share_no_order_of_words(small_world: World) -> None:
    assert len({drawn(small_world)[1].words for _ in range(50)}) == 50
    assert timedelta(minutes=15) >= challenges.LIFETIME

"""Compliance profiles: what a tenant's law asks for is asked of consents, of requests, and of what leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest
from tests.consent.world import NOW, World

from vivavoce.consent import ConsentInvalid, ConsentRefused, Purpose, Scope
from vivavoce.consent.profiles import Name, profile, profile_of, weaker
from vivavoce.consent.service import authorize
from vivavoce.ledger.tables import Assurance, Tenant


def under(world: World, **columns: str) -> None:
    with world.database.write() as session:
        tenant = session.get_one(Tenant, world.account.tenant_id)
        for name, value in columns.items():
            setattr(tenant, name, value)


def refusal(world: World, voice_id: str, **asked: object) -> str:
    with world.database.read() as session, pytest.raises(ConsentRefused) as caught:
        authorize(
            session, tenant_id=world.account.tenant_id, voice_id=voice_id, operation="speech", now=NOW,
            **{"purpose": "general", **asked},  # type: ignore[arg-type]
        )  # fmt: skip
    return caught.value.code


def test_every_profile_says_where_it_comes_from_and_max_is_the_strictest() -> None:
    for name in get_args(Name):
        assert len(profile(name).why) > 40
        assert profile("max").kept_days <= profile(name).kept_days
        assert profile("max").longest_days <= profile(name).longest_days
        assert profile("max").purposes_refused >= profile(name).purposes_refused
        assert profile("max").disclosure
    with pytest.raises(ValueError, match="no compliance profile"):
        profile("none")


def test_who_has_chosen_nothing_has_the_strictest(small_world: World) -> None:
    with small_world.database.read() as session:
        assert profile_of(session, small_world.account.tenant_id) == profile("max")
        assert profile_of(session, "ten_nobody") == profile("max")


def test_the_longest_term_is_the_profiles(small_world: World) -> None:
    longer = Scope(lifetime=timedelta(days=profile("max").longest_days + 1))
    with pytest.raises(ConsentInvalid, match="lifetime_out_of_range"):
        small_world.consent(scope=longer)
    under(small_world, profile="us")
    assert small_world.consent(scope=longer)


def test_a_refused_purpose_cannot_be_consented_to_and_a_profile_that_turns_stricter_ends_it(small_world: World) -> None:
    wanted = Scope(purposes=frozenset({Purpose.ADVERTISING, Purpose.GENERAL}))
    with pytest.raises(ConsentInvalid, match="purpose_refused"):
        small_world.consent(scope=wanted)
    under(small_world, profile="eu")
    voice = small_world.voice(small_world.consent(scope=wanted))
    under(small_world, profile="max")
    assert refusal(small_world, voice, purpose="advertising") == "purpose_refused"


def test_a_tenant_may_ask_for_more_than_its_profile(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    under(small_world, least_assurance="challenge")
    assert refusal(small_world, voice) == "assurance_too_low"


def test_a_tenant_cannot_ask_for_less() -> None:
    assert [one for one in Assurance if weaker(one, Assurance.CHALLENGE)] == ["attested", "fixed-phrase"]
    assert not weaker("challenge", "attested")


def test_territory_and_trade_are_asked_of_each_request(small_world: World) -> None:
    voice = small_world.voice(small_world.consent(scope=Scope(territory=("DE", "AT"))))
    assert refusal(small_world, voice) == "territory_not_covered"
    assert refusal(small_world, voice, territory="FR") == "territory_not_covered"
    assert refusal(small_world, voice, territory="DE", commercial=True) == "commercial_not_covered"
    job = small_world.admit(small_world.submission(voice, territory="AT"))
    assert job.grant_token

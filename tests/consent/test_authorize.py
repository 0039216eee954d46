"""No consent, no sound: every way in which a consent can fail to cover a request is refused, by its own name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.consent.world import NOW, World

from vivavoce.consent import ConsentRefused, Purpose, Scope
from vivavoce.consent.scope import covers_language
from vivavoce.consent.service import Authorization, authorize, effective_status, find_consent
from vivavoce.ledger.envelope import destroy_subject_key
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import Consent, ConsentStatus, Operation, Subject, Voice


def ask(world: World, voice_id: str, now: datetime = NOW, **changes: Any) -> Authorization:
    asked: dict[str, Any] = {"operation": "speech", "purpose": "general", "tenant_id": world.account.tenant_id}
    with world.database.read() as session:
        return authorize(session, voice_id=voice_id, now=now, **asked | changes)


def refusal(world: World, voice_id: str, now: datetime = NOW, **changes: Any) -> str:
    with pytest.raises(ConsentRefused) as caught:
        ask(world, voice_id, now, **changes)
    return caught.value.code


def test_a_consent_permits_what_it_covers_and_says_how_well_it_is_established(small_world: World) -> None:
    consent = small_world.consent()
    voice = small_world.voice(consent)
    found = ask(small_world, voice)
    assert (found.consent_id, found.voice_id, found.assurance) == (consent, voice, "attested")
    assert found.expires_at == NOW + timedelta(days=365)


@pytest.mark.parametrize("status", [status for status in ConsentStatus if status is not ConsentStatus.VERIFIED])
def test_only_a_verified_consent_permits_anything(small_world: World, status: ConsentStatus) -> None:
    consent = small_world.consent()
    voice = small_world.voice(consent)
    small_world.change(consent, status=status)
    assert refusal(small_world, voice) == f"consent_{status}"


def test_time_alone_ends_a_consent_to_the_moment(small_world: World) -> None:
    """No clock job has to run: at the very moment of its end it is over."""
    voice = small_world.voice(small_world.consent(scope=Scope(lifetime=timedelta(days=1))))
    end = NOW + timedelta(days=1)
    assert ask(small_world, voice, end - timedelta(microseconds=1))
    assert refusal(small_world, voice, end) == "consent_expired"


def test_an_expired_consent_reads_as_expired_and_a_withdrawn_one_as_withdrawn(small_world: World) -> None:
    """What was withdrawn does not turn into merely expired by waiting."""
    first, second = small_world.consent(), small_world.consent()
    small_world.revoke(second)
    with small_world.database.read() as session:
        late = NOW + timedelta(days=400)
        assert effective_status(session.get_one(Consent, first), late) is ConsentStatus.EXPIRED
        assert effective_status(session.get_one(Consent, second), late) is ConsentStatus.REVOKED


def test_a_consent_does_not_reach_back(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    assert refusal(small_world, voice, NOW - timedelta(seconds=1)) == "consent_not_yet_valid"


def test_what_the_consent_does_not_name_is_not_covered(small_world: World) -> None:
    """One purpose never stands for another: `general` does not mean `any`."""
    scope = Scope(operations=frozenset({Operation.SPEECH}), purposes=frozenset({Purpose.GENERAL, Purpose.AUDIOBOOK}))
    voice = small_world.voice(small_world.consent(scope=scope))
    assert ask(small_world, voice, purpose="audiobook")
    assert refusal(small_world, voice, operation="conversion") == "operation_not_covered"
    assert refusal(small_world, voice, purpose="advertising") == "purpose_not_covered"
    assert refusal(small_world, voice, purpose="") == "purpose_not_covered"
    assert refusal(small_world, voice, operation="detection") == "operation_not_covered"


def test_a_consent_for_some_languages_wants_the_language_named(small_world: World) -> None:
    voice = small_world.voice(small_world.consent(scope=Scope(languages=("en", "pt-BR"))))
    assert ask(small_world, voice, language="en-GB")
    for language in ("de", "pt-PT", "e", "eng", None):
        assert refusal(small_world, voice, language=language) == "language_not_covered"


@pytest.mark.parametrize(
    ("allowed", "asked", "covered"),
    [([], None, True), ([], "de", True), (["en"], "EN-us", True), (["en-GB"], "en", False), (["en"], "en", True)],
)
def test_languages_match_as_rfc_4647_says(allowed: list[str], asked: str | None, covered: bool) -> None:
    assert covers_language(allowed, asked) is covered


def test_another_tenants_voice_is_unknown_not_forbidden(small_world: World) -> None:
    """Nobody learns which voices others have; and a voice of mine on a consent of theirs is none."""
    other = small_world.join("other")
    theirs = small_world.consent(other)
    assert refusal(small_world, small_world.voice(theirs, other)) == "unknown_voice"
    assert refusal(small_world, small_world.voice(theirs)) == "unknown_voice"
    with small_world.database.read() as session, pytest.raises(ConsentRefused, match="unknown_consent"):
        find_consent(session, small_world.account.tenant_id, theirs)


@pytest.mark.parametrize("voice_id", ["", "voice_1", "x" * 5000, "\0", "\ud800", "voice_' OR 1=1 --", "../../keys"])
def test_a_voice_id_from_outside_may_be_anything(world: World, voice_id: str) -> None:
    """Text that a database cannot even store is an unknown voice, no crash."""
    assert refusal(world, voice_id) == "unknown_voice"


def test_unknown_and_deleted_voices(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    assert refusal(small_world, new_id("voice")) == "unknown_voice"
    with small_world.database.write() as session:
        session.get_one(Voice, voice).deleted_at = NOW
    assert refusal(small_world, voice) == "voice_deleted"


def test_whose_key_is_destroyed_has_left_whatever_the_status_says(small_world: World) -> None:
    consent = small_world.consent()
    voice = small_world.voice(consent)
    with small_world.database.write() as session:
        destroy_subject_key(session.get_one(Subject, session.get_one(Consent, consent).subject_id), NOW)
    assert refusal(small_world, voice) == "consent_erased"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_answer_is_never_taken_from_memory(world: World) -> None:
    """A session that has read the consent before still sees the withdrawal that was committed since.

    (On SQLite a write transaction lets nobody else write meanwhile.)
    """
    consent = world.consent()
    voice = world.voice(consent)
    with world.database.write() as session:
        asked = {"operation": "speech", "purpose": "general", "tenant_id": world.account.tenant_id}
        authorize(session, voice_id=voice, now=NOW, **asked)
        world.revoke(consent)
        for lock in (False, True):
            with pytest.raises(ConsentRefused, match="consent_revoked"):
                authorize(session, voice_id=voice, now=NOW, lock=lock, **asked)

"""Whose voice it is: strangers' clips are refused, look-alikes wait for a person, and the log tells of each."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from tests.consent.world import NOW, RECORDING, World

from vivavoce.consent import ConsentRefused, Scope
from vivavoce.consent.challenge import Asked, ask
from vivavoce.consent.service import authorize
from vivavoce.consent.standing import renew
from vivavoce.ledger.rights import ProtectedVoice, Review, Verification, VoicePrint
from vivavoce.ledger.tables import Consent, Subject, Voice
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.likeness import (
    ALIKE,
    OTHER,
    SAME,
    Heard,
    Vector,
    about,
    decide,
    protect,
    protected_notes,
    settle,
    unprotect,
    voice_print,
)
from vivavoce.policy.verification import DOUBT, queue
from vivavoce.release.withdrawal import erase

MODEL = "test"


def speaker(cosine: float = 1.0, axis: int = 1) -> Vector:
    """A vector at this cosine to the first axis."""
    vector = np.zeros(192, dtype=np.float32)
    vector[0], vector[axis] = cosine, np.sqrt(1 - cosine**2)
    return vector


def heard(clip: float = 0.9, axis: int = 1) -> Heard:
    return Heard(speaker(), [speaker(clip, axis)], MODEL)


def settled(world: World, voice: str, what: Heard) -> str:
    with world.database.write() as session:
        return settle(session, world.log, world.keyring, voice, what, "worker:1", NOW)


def queued(world: World, session: Session, consent_id: str) -> Verification:
    """The verification of a consent's recording, not yet decided."""
    mine = {"tenant_id": world.account.tenant_id, "actor": world.account.key_id, "now": NOW}
    asked = Asked("Jane Reader", "en", Scope(), None)
    drawn, shown = ask(session, world.log, world.keyring, asked, **mine)
    consent = session.get_one(Consent, consent_id)
    queue(
        session, world.log, world.keyring, world.store, consent, drawn.id, shown, world.account.key_id, NOW
    )  # fmt: skip
    return session.get_one(Verification, consent_id)


def refusal(world: World, voice: str, account: str | None = None) -> str | None:
    with world.database.read() as session:
        try:
            authorize(
                session, tenant_id=account or world.account.tenant_id, voice_id=voice, operation="speech",
                purpose="general", now=NOW,
            )  # fmt: skip
        except ConsentRefused as error:
            return error.code
    return None


@pytest.mark.parametrize(
    ("cosine", "standing"),
    [
        (1.0, "ready"),
        (SAME + 0.001, "ready"),
        (SAME - 0.001, "review"),
        (OTHER + 0.001, "review"),
        (OTHER - 0.001, "refused"),
    ],
)
def test_clips_must_be_of_who_consented(world: World, cosine: float, standing: str) -> None:
    voice = world.voice(world.consent())
    assert settled(world, voice, heard(cosine)) == standing
    assert refusal(world, voice) == {"ready": None}.get(standing, f"voice_{standing}")
    tag = {"ready": [], "review": ["review:create"], "refused": ["voice:refuse"]}[standing]
    assert [leaf["tag"] for leaf in world.leaves("review:create", "voice:refuse")] == tag


def test_one_strangers_clip_among_many_spoils_the_voice(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    clips = [speaker(0.99), speaker(0.98), speaker(0.1)]
    assert settled(small_world, voice, Heard(speaker(), clips, MODEL)) == "refused"


def test_a_settled_voice_stays_as_it_is(small_world: World) -> None:
    """A later, better recording cannot launder a refused voice."""
    voice = small_world.voice(small_world.consent())
    settled(small_world, voice, heard(0.1))
    assert settled(small_world, voice, heard(1.0)) == "refused"


def test_another_tenants_voice_is_a_look_alike_and_ones_own_is_not(world: World) -> None:
    theirs = world.join("another")
    first = world.voice(world.consent(theirs), theirs)
    assert settled(world, first, heard()) == "ready"
    mine = world.voice(world.consent())
    assert settled(world, mine, heard()) == "review"
    with world.database.read() as session:
        review = session.scalars(select(Review)).one()
        assert (review.other_voice_id, review.protected_id, review.threshold) == (first, None, ALIKE)
    again = world.voice(world.consent(theirs), theirs)
    with world.database.write() as session:  # the reviewed voice is not what keeps the other tenant out
        session.get_one(VoicePrint, mine).model = "another model"
    assert settled(world, again, heard()) == "ready"


def test_a_protected_voice_is_not_cloned_without_an_admins_word(world: World) -> None:
    with world.database.write() as session:
        row = protect(
            session, world.log, world.keyring, speaker(0.9), MODEL, "A Singer", "asked for it", "operator", NOW
        )  # fmt: skip
    voice = world.voice(world.consent())
    assert settled(world, voice, heard(0.95)) == "review"
    assert refusal(world, voice) == "voice_review"
    with world.database.write() as session:
        review = session.scalars(select(Review)).one()
        assert review.protected_id == row.id
        with pytest.raises(PolicyRefused, match="reason_empty"):
            decide(session, world.log, world.keyring, review.id, "approve", "  ", "key_admin", NOW)
        decide(session, world.log, world.keyring, review.id, "approve", "She said so herself.", "key_admin", NOW)
        with pytest.raises(PolicyRefused, match="review_decided"):
            decide(session, world.log, world.keyring, review.id, "refuse", "On second thoughts.", "key_admin", NOW)
    assert refusal(world, voice) is None
    assert "She said so" not in str(world.leaves())
    assert [leaf["facts"] for leaf in world.leaves("review:decide")] == [{"decision": "approve"}]


def test_what_is_taken_off_the_register_tells_nothing_any_more(world: World) -> None:
    with world.database.write() as session:
        row = protect(session, world.log, world.keyring, speaker(), MODEL, "A Singer", "asked", "operator", NOW)
    with world.database.write() as session:
        assert [name for _, name, _ in protected_notes(session, world.log, world.keyring, "operator")] == ["A Singer"]
        unprotect(session, world.log, row.id, "operator", NOW)
    with world.database.write() as session, pytest.raises(PolicyRefused, match="unknown_protected_voice"):
        unprotect(session, world.log, row.id, "operator", NOW)
    assert settled(world, world.voice(world.consent()), heard()) == "ready"
    with world.database.read() as session:
        kept = session.get_one(ProtectedVoice, row.id)
        assert kept.sealed == kept.note_sealed == b""


def test_a_recording_that_may_be_joined_holds_its_voices_for_a_person(world: World) -> None:
    consent = world.consent()
    with world.database.write() as session:
        row = queued(world, session, consent)
        row.reasons = [DOUBT]
        row.measures = {"words_likeness": 0.58, "window_likeness": 0.4, "halves_likeness": 0.9}
        row.thresholds = {f"least_{name}": 0.55 for name in row.measures}
    voice = world.voice(consent)
    assert settled(world, voice, heard()) == "review"
    assert refusal(world, voice) == "voice_review"
    with world.database.read() as session:
        review = session.scalars(select(Review)).one()
        assert (review.similarity, review.threshold) == (0.4, 0.55)
        assert about(session, review) == "joined_recording"
    assert settled(world, world.voice(world.consent()), heard()) == "ready"


def test_a_speaker_vector_leaves_with_its_speaker(world: World) -> None:
    consent = world.consent()
    voice = world.voice(consent)
    settled(world, voice, heard())
    with world.database.write() as session:
        assert speaker().tobytes() not in session.get_one(VoicePrint, voice).sealed
        owner = session.get_one(Subject, session.get_one(Consent, consent).subject_id)
        taken_along = voice_print(session, world.keyring, owner, voice)
        assert taken_along == {"model": MODEL, "vector": heard().voice.tolist()}
        erase(session, world.log, session.get_one(Consent, consent).subject_id, "subject", NOW)
    with world.database.read() as session:
        assert session.get(VoicePrint, voice) is None
        assert session.get_one(Voice, voice).name == "erased"


def test_a_minors_voice_under_a_guardians_word_is_a_persons_to_decide(small_world: World) -> None:
    """The guardian has read: the voices differ, and that alone proves nothing."""
    consent = small_world.consent()
    small_world.change(consent, guardian_relationship="parent")
    assert settled(small_world, small_world.voice(consent), heard(0.1)) == "review"


def test_after_a_renewal_the_voice_is_compared_anew(world: World) -> None:
    """A consent cannot be given by one speaker and renewed by another."""
    consent = world.consent()
    voice = world.voice(consent)
    assert settled(world, voice, heard(0.5)) == "review"
    with world.database.write() as session:
        review = session.scalars(select(Review.id)).one()
        decide(session, world.log, world.keyring, review, "approve", "heard both", "key_admin", NOW)
        renew(
            session, world.log, world.store, world.keyring, consent, actor="key_1", recording=RECORDING, language="en",
            scope=Scope(), now=NOW,
        )  # fmt: skip
        assert session.get_one(Voice, voice).standing == "checking"
    assert settled(world, voice, heard(0.5)) == "review"
    with world.database.read() as session:
        assert session.scalars(select(Review)).one().decision is None

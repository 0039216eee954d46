"""Verifying what a speaker recorded for a challenge."""

from __future__ import annotations

from vivavoce.consent.creation import open_recording
from vivavoce.ledger.tables import Consent, Job, Subject
from vivavoce.policy.heard_words import words_stretch
from vivavoce.policy.verification import Judgement, Measured, judge, shown_text
from vivavoce.sound import decode, resample
from vivavoce.verification import recordings, speakers, transcription
from vivavoce.verification.splices import unity
from vivavoce.workers.host import Host


def verify(host: Host, job: Job) -> tuple[Measured, Judgement]:
    """Listen to the recording of a job's consent, and judge it.

    Raises:
        VerifierMissing: A model is not installed. Nothing passes without it.
        Erased, SealBroken, ObjectMissing: The recording cannot be had.
    """
    with host.database.read() as session:
        consent = session.get_one(Consent, job.consent_id)
        shown = shown_text(session, host.keyring, consent.id)
        subject = session.get_one(Subject, consent.subject_id)
        sound = decode(open_recording(consent, subject, host.store, host.keyring))
    language = shown.language.partition("-")[0]
    wave = resample(sound.samples, sound.sample_rate, recordings.RATE)
    spoken = recordings.find_speech(wave)
    said = host.listeners.words(wave, recordings.RATE, language)
    stretch = words_stretch(said.pieces, shown, recordings.RATE)
    found = recordings.quality(wave, spoken)
    measured = Measured(
        speech_seconds=found.speech_seconds,
        level_db=found.level_db,
        clipped=recordings.clipped(sound.samples),
        snr_db=found.snr_db,
        ours=host.natural.is_ours(sound.samples, sound.sample_rate),
        transcript=said.text,
        unity=unity(host.listeners.speakers, wave, recordings.RATE, spoken, stretch),
        models={"words": transcription.MODEL, "speech": recordings.MODEL, "speakers": speakers.MODEL},
    )
    return measured, judge(measured, shown)

"""Judging what a speaker recorded for a challenge: does the sound do, and are these the words? As data and as a row.

The measuring is the worker's; here is what follows from it. The caller owns the transactions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.statements import Reading, spoken_form
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.rights import Verification
from vivavoce.ledger.tables import Consent, ConsentStatus, Job, JobKind, JobStatus, Subject
from vivavoce.policy.heard_words import edit_distance, words_heard
from vivavoce.policy.requests import digest, request_key, seal_request
from vivavoce.verification.splices import Unity

Verdict = Literal["accepted", "again", "refused"]

REASONS = {
    "recording_is_generated": "The recording carries our own mark: a machine made it, and nobody spoke it.",
    "too_little_speech": "There is too little speech in the recording. Read the whole sentence.",
    "too_quiet": "The recording is too quiet. Go nearer to the microphone.",
    "clipped": "The recording is too loud and distorted. Go further from the microphone.",
    "too_noisy": "There is too much noise. Record in a quieter place.",
    "words_missing": "The one-time words were not heard, in their order. Read them clearly.",
    "text_unclear": "The sentence was not heard well enough. Read it word for word.",
    "other_text": "Something else was said than the sentence that was shown.",
    "two_speakers": "The sentence and the one-time words were spoken by two different people.",
    "doubtful_speaker": "Parts of the recording may be of two people. Before the voice is used, somebody listens.",
}
_FINAL = ("recording_is_generated", "other_text", "two_speakers")
"""Reasons after which nobody is asked to try again."""
DOUBT = "doubtful_speaker"
"""The reason that lets a recording pass, and holds every voice that is founded on it for a review."""


@dataclass(frozen=True)
class Thresholds:
    """What a recording must reach. Levels in dB below full scale, the signal-to-noise ratio in dB."""

    least_speech_seconds: float = 6.0
    """Also what it takes to compare the parts of a recording."""
    least_level_db: float = -40.0
    most_clipped: float = 0.005
    """Share of samples at full scale."""
    least_snr_db: float = 10.0
    most_distance: float = 0.25
    """Normalised edit distance between what was heard and the text, over letters as they are heard."""
    other_distance: float = 0.6
    """Distance from which on it was another text."""
    other_speaker: float = 0.50
    """Cosine between the sentence and the one-time words below which two people spoke them."""
    least_words_likeness: float = 0.65
    """Cosine between them from which on one did; in between a person decides."""
    least_window_likeness: float = 0.60
    """Cosine of the least like window from which on no stretch of the recording stands out."""
    least_halves_likeness: float = 0.75
    """Cosine of what comes before and after any moment from which on the speaker stays the same."""


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Measured:
    """What a worker heard in a recording."""

    speech_seconds: float
    level_db: float
    clipped: float
    snr_db: float
    ours: bool
    """Whether it carries our mark."""
    transcript: str
    unity: Unity
    models: dict[str, str]


@dataclass(frozen=True)
class Judgement:
    """What becomes of a recording, and why; `distance` as `Thresholds.most_distance`."""

    verdict: Verdict
    reasons: tuple[str, ...]
    distance: float
    words_heard: int


def judge(measured: Measured, shown: Reading, asked: Thresholds = THRESHOLDS) -> Judgement:
    """Judge a recording against what was shown."""
    said = spoken_form(measured.transcript, shown.language)
    wanted = spoken_form(shown.text, shown.language)
    distance = edit_distance(said, wanted) / max(1, len(wanted))
    heard = words_heard(said, shown)
    parts, all_heard = measured.unity.stretch, heard == len(shown.words)
    # Words that take no time to say cannot be compared with the sentence, and must not pass for it.
    too_short = all_heard and parts is None
    failed = {
        "recording_is_generated": measured.ours,
        "too_little_speech": measured.speech_seconds < asked.least_speech_seconds or too_short,
        "too_quiet": measured.level_db < asked.least_level_db,
        "clipped": measured.clipped > asked.most_clipped,
        "too_noisy": measured.snr_db < asked.least_snr_db,
        "other_text": distance > asked.other_distance,
        "text_unclear": asked.most_distance < distance <= asked.other_distance,
        "words_missing": not all_heard,
        "two_speakers": parts is not None and parts < asked.other_speaker,
    }
    reasons = tuple(name for name, fails in failed.items() if fails)
    verdict: Verdict = "refused" if set(reasons) & set(_FINAL) else "again" if reasons else "accepted"
    if verdict == "accepted" and _doubtful(measured.unity, asked):
        reasons = (DOUBT,)
    return Judgement(verdict, reasons, round(min(distance, 9.0), 4), heard)


def _doubtful(found: Unity, asked: Thresholds) -> bool:
    return (
        (found.stretch or 0.0) < asked.least_words_likeness
        or found.window < asked.least_window_likeness
        or found.halves < asked.least_halves_likeness
    )


def queue(
    session: Session, log: Log, keyring: KeyRing, store: ObjectStore, consent: Consent, challenge_id: str,
    shown: Reading, api_key_id: str, now: datetime,
) -> Job:  # fmt: skip
    """Have a pending consent's recording verified: intent leaf, sealed request, job and verification rows."""
    job_id = new_id("job")
    refs: dict[str, str | int] = {"job": job_id, "consent": consent.id, "subject": consent.subject_id}
    leaf = log.append(session, Entry(Tag.VERIFY_INTENT, consent.tenant_id, api_key_id, refs, {}))
    written = json.dumps({"request": {"consent": consent.id}, "input_sha256": None}, sort_keys=True).encode()
    job = Job(
        id=job_id,
        tenant_id=consent.tenant_id,
        api_key_id=api_key_id,
        kind=JobKind.VERIFICATION,
        status=JobStatus.QUEUED,
        consent_id=consent.id,
        subject_id=consent.subject_id,
        request_key=request_key(job_id),
        request_sha256=digest(written),
        created_at=now,
        intent_leaf=leaf,
        attempt=0,
    )
    session.add(job)
    session.flush()
    subject = session.get_one(Subject, consent.subject_id)
    row = Verification(
        consent_id=consent.id,
        job_id=job_id,
        challenge_id=challenge_id,
        text_sealed=seal(keyring, subject, json.dumps(asdict(shown)).encode(), _place(consent.id, "text")),
        reasons=[],
        measures={},
        thresholds=asdict(THRESHOLDS),
        models={},
        created_at=now,
    )
    session.add(row)
    session.flush()
    seal_request(session, store, keyring, job, written, None)
    return job


def shown_text(session: Session, keyring: KeyRing, consent_id: str) -> Reading:
    """Unseal what the speaker of a consent was shown; raises `Erased`."""
    row = session.get_one(Verification, consent_id)
    subject = session.get_one(Subject, session.get_one(Consent, consent_id).subject_id)
    said = json.loads(unseal(keyring, subject, row.text_sealed, _place(consent_id, "text")))
    said["words"] = tuple(said["words"])
    return Reading(**said)


def verified(session: Session, keyring: KeyRing, subject: Subject, consent_id: str) -> dict[str, Any] | None:
    """Tell a speaker how their recording was judged, what they were shown and what was heard; None if it was not.

    After an erasure the texts are None.
    """
    row = session.get(Verification, consent_id)
    if row is None:
        return None
    same = ("verdict", "reasons", "measures", "thresholds", "models", "created_at", "decided_at")
    shown = transcript = None
    if subject.wrapped_key is not None:
        shown = asdict(shown_text(session, keyring, consent_id))
        if row.transcript_sealed is not None:
            transcript = unseal(keyring, subject, row.transcript_sealed, _place(consent_id, "transcript")).decode()
    return {name: getattr(row, name) for name in same} | {"shown": shown, "transcript": transcript}


def settle(
    session: Session, keyring: KeyRing, consent_id: str, measured: Measured, judged: Judgement, now: datetime
) -> dict[str, Any]:
    """Write a judgement down, in the row and in the consent's status; returns the job's result.

    Only a pending consent is decided. One that was withdrawn meanwhile stays withdrawn.

    Raises:
        Erased: The speaker has left.
    """
    consent = session.get_one(Consent, consent_id, with_for_update={"key_share": True}, populate_existing=True)
    subject = session.get_one(Subject, consent.subject_id)
    row = session.get_one(Verification, consent_id)
    row.transcript_sealed = seal(keyring, subject, measured.transcript.encode(), _place(consent_id, "transcript"))
    row.verdict, row.reasons, row.decided_at = judged.verdict, list(judged.reasons), now
    row.models = measured.models
    row.measures = {
        "speech_seconds": round(measured.speech_seconds, 2),
        "level_db": round(measured.level_db, 1),
        "clipped": round(measured.clipped, 5),
        "snr_db": round(measured.snr_db, 1),
        "distance": judged.distance,
        "words_heard": judged.words_heard,
        "words_likeness": measured.unity.stretch and round(measured.unity.stretch, 3),
        "window_likeness": round(measured.unity.window, 3),
        "halves_likeness": round(measured.unity.halves, 3),
    }
    if consent.status == ConsentStatus.PENDING:
        accepted = judged.verdict == "accepted"
        consent.status = ConsentStatus.VERIFIED if accepted else ConsentStatus.REJECTED
        consent.decided_at = now
    return {"accepted": judged.verdict == "accepted", **row.measures, "reasons": row.reasons}


def _place(consent_id: str, column: str) -> bytes:
    return f"verification.{column}_sealed:{consent_id}".encode()

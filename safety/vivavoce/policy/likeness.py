"""Whose voice is it? Clips are compared with their consent, and with voices that others must be protected from.

A new voice is `checking`. The worker that first meets it compares speakers (CAM++, `vivavoce.verification`) and settles
it here: `ready`; `refused`, where clips and consent have two speakers; or `review`, where nobody can say so, where the
consent's own recording may be of two, or where it sounds like a protected voice or one that another tenant has consent
for. Admins decide reviews. The caller owns the transactions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.envelope import seal, seal_plain, unseal, unseal_plain
from vivavoce.ledger.errors import Erased
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.rights import ProtectedVoice, Review, Verification, VoicePrint
from vivavoce.ledger.tables import Consent, Subject, Voice
from vivavoce.policy.decisions import Decision, plain_reason
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.verification import DOUBT

SAME = 0.60
"""Cosine from which on two recordings count as of one speaker (docs/verification.md: 0.2 % of strangers reach it)."""
OTHER = 0.45
"""Cosine below which they count as of two."""
ALIKE = 0.70
"""Cosine from which on a stranger's voice is too close: higher, since a new voice is compared with all there are."""

Vector = NDArray[np.float32]
About = Literal["own_consent", "joined_recording", "protected_voice", "another_tenant"]


@dataclass(frozen=True)
class Heard:
    """The speakers of a voice's recordings: float32[n] of length 1 each, by one model."""

    consent: Vector
    clips: Sequence[Vector]
    model: str

    @property
    def own(self) -> float:
        """How like the consent's speaker the least like clip is."""
        return min(float(self.consent @ clip) for clip in self.clips)

    @property
    def voice(self) -> Vector:
        """The vector of the voice: the mean of its clips."""
        middle = np.mean(self.clips, axis=0)
        return np.asarray(middle / max(float(np.linalg.norm(middle)), 1e-9), dtype=np.float32)


@dataclass(frozen=True)
class Match:
    """Why a voice needs a review: what it is too close to; with neither, that its own recordings are too far apart."""

    similarity: float
    threshold: float
    protected_id: str | None = None
    voice_id: str | None = None


def settle(session: Session, log: Log, keyring: KeyRing, voice_id: str, heard: Heard, actor: str, now: datetime) -> str:
    """Decide what a new voice is; returns its standing. One that is settled already stays as it is.

    Raises:
        Erased: The speaker has left.
        LogUnavailable: The log cannot be written. Nothing was decided.
    """
    voice = session.get_one(Voice, voice_id, with_for_update={"key_share": True}, populate_existing=True)
    if voice.standing != "checking":
        return voice.standing
    consent = session.get_one(Consent, voice.consent_id)
    subject = session.get_one(Subject, consent.subject_id)
    refs: dict[str, str | int] = {"voice": voice.id, "consent": consent.id, "subject": subject.id}
    # A guardian may have read for the minor whose voice it is: nobody but a person can say so.
    if heard.own < OTHER and consent.guardian_relationship is None:
        voice.standing = "refused"
        facts: dict[str, Json] = {
            "code": "clip_of_another_speaker",
            "similarity": round(heard.own, 3),
            "model": heard.model,
        }
        log.append(session, Entry(Tag.VOICE_REFUSE, voice.tenant_id, actor, refs, facts))
        return voice.standing
    match = _apart(session, heard, consent) or _closest(session, keyring, heard, voice, subject.id)
    if match is None:
        voice.standing = "ready"
    else:
        voice.standing = "review"
        _ask(session, log, voice, heard.model, match, refs, actor, now)
    sealed = seal(keyring, subject, heard.voice.astype("<f4").tobytes(), _place(voice.id))
    # There is one already where the consent was renewed and its recording is another.
    session.merge(
        VoicePrint(voice_id=voice.id, subject_id=subject.id, model=heard.model, sealed=sealed, created_at=now)
    )
    session.flush()
    return voice.standing


def decide(
    session: Session, log: Log, keyring: KeyRing, review_id: str, decision: Decision, reason: str, actor: str,
    now: datetime,
) -> Review:  # fmt: skip
    """Answer a review, once and for all; the reason is sealed.

    Raises:
        PolicyRefused: unknown_review, review_decided or reason_empty.
    """
    reason = plain_reason(reason)
    review = session.get(Review, review_id, with_for_update={"key_share": True}) if is_id(review_id) else None
    if review is None:
        raise PolicyRefused("unknown_review", "there is no such review")
    if review.decision is not None:
        raise PolicyRefused("review_decided", "the review has been decided")
    voice = session.get_one(Voice, review.voice_id, with_for_update={"key_share": True})
    voice.standing = "ready" if decision == "approve" else "refused"
    review.decision, review.decided_by, review.decided_at = decision, actor, now
    review.reason_sealed = seal_plain(keyring, reason.encode(), f"review.reason_sealed:{review.id}".encode())
    refs = {"review": review.id, "voice": voice.id, "consent": voice.consent_id}
    log.append(session, Entry(Tag.REVIEW_DECIDE, review.tenant_id, actor, refs, {"decision": decision}))
    return review


def about(session: Session, review: Review) -> About:
    """Say what a review asks."""
    if review.protected_id is not None:
        return "protected_voice"
    if review.other_voice_id is not None:
        return "another_tenant"
    match = joined(session, session.get_one(Voice, review.voice_id).consent_id)
    return "joined_recording" if match is not None and match.similarity == review.similarity else "own_consent"


def protect(
    session: Session, log: Log, keyring: KeyRing, vector: Vector, model: str, name: str, reason: str, actor: str,
    now: datetime,
) -> ProtectedVoice:  # fmt: skip
    """Put somebody's voice on the no-go register. Who it is, is sealed under the installation's key."""
    row_id = new_id("prot")
    row = ProtectedVoice(
        id=row_id,
        model=model,
        sealed=seal_plain(keyring, vector.astype("<f4").tobytes(), _protected_place(row_id)),
        note_sealed=seal_plain(keyring, json.dumps({"name": name, "reason": reason}).encode(), _note_place(row_id)),
        added_by=actor,
        created_at=now,
    )
    session.add(row)
    log.append(session, Entry(Tag.PROTECTED_CREATE, None, actor, {"protected": row_id}, {"model": model}))
    return row


def unprotect(session: Session, log: Log, protected_id: str, actor: str, now: datetime) -> None:
    """Take a voice off the register, with all that tells who it is; raises `PolicyRefused`: unknown_protected_voice."""
    row = session.get(ProtectedVoice, protected_id, with_for_update=True) if is_id(protected_id) else None
    if row is None or row.removed_at is not None:
        raise PolicyRefused("unknown_protected_voice", "there is no such protected voice")
    row.sealed = row.note_sealed = b""
    row.removed_at = now
    log.append(session, Entry(Tag.PROTECTED_DELETE, None, actor, {"protected": row.id}, {}))


def protected_notes(session: Session, log: Log, keyring: KeyRing, actor: str) -> list[tuple[ProtectedVoice, str, str]]:
    """List the register with names and reasons; the reading is logged."""
    rows = session.scalars(select(ProtectedVoice).where(ProtectedVoice.removed_at.is_(None))).all()
    log.append(session, Entry(Tag.PROTECTED_READ, None, actor, {}, {"listed": len(rows)}))
    notes = [json.loads(unseal_plain(keyring, row.note_sealed, _note_place(row.id))) for row in rows]
    return [(row, note["name"], note["reason"]) for row, note in zip(rows, notes, strict=True)]


def voice_print(session: Session, keyring: KeyRing, subject: Subject, voice_id: str) -> dict[str, Json] | None:
    """Unseal the numbers that tell a voice's speaker apart; None where there are none. Raises `Erased`."""
    row = session.get(VoicePrint, voice_id)
    if row is None:
        return None
    vector = np.frombuffer(unseal(keyring, subject, row.sealed, _place(voice_id)), dtype="<f4")
    return {"model": row.model, "vector": vector.tolist()}


def _ask(
    session: Session, log: Log, voice: Voice, model: str, match: Match, refs: dict[str, str | int], actor: str,
    now: datetime,
) -> None:  # fmt: skip
    # One question a voice, asked again after a renewal; the log keeps what was answered before.
    review = session.scalars(select(Review).where(Review.voice_id == voice.id)).one_or_none()
    if review is None:
        review = Review(id=new_id("rev"), voice_id=voice.id, tenant_id=voice.tenant_id, created_at=now)
        session.add(review)
    review.protected_id, review.other_voice_id = match.protected_id, match.voice_id
    review.similarity, review.threshold, review.model = match.similarity, match.threshold, model
    review.decision = review.reason_sealed = review.decided_by = review.decided_at = None
    session.flush()
    facts: dict[str, Json] = {"similarity": round(match.similarity, 3), "threshold": match.threshold, "model": model}
    log.append(session, Entry(Tag.REVIEW_CREATE, voice.tenant_id, actor, refs | {"review": review.id}, facts))


def joined(session: Session, consent_id: str) -> Match | None:
    """Say how far apart the parts of a consent's recording are, where its verification doubted that one spoke them."""
    row = session.get(Verification, consent_id)
    if row is None or DOUBT not in row.reasons:
        return None
    # Farthest below its threshold.
    _, similarity, threshold = min(
        (row.measures[f"{part}_likeness"] - row.thresholds[f"least_{part}_likeness"],
         row.measures[f"{part}_likeness"], row.thresholds[f"least_{part}_likeness"])
        for part in ("words", "window", "halves")
    )  # fmt: skip
    return Match(similarity, threshold)


def _apart(session: Session, heard: Heard, consent: Consent) -> Match | None:
    return Match(heard.own, SAME) if heard.own < SAME else joined(session, consent.id)


def _closest(session: Session, keyring: KeyRing, heard: Heard, voice: Voice, subject_id: str) -> Match | None:
    """The voice that a new one is closest to, among those that it must not be close to; None if none is too close."""
    found = [*_protected(session, keyring, heard), *_others(session, keyring, heard, voice, subject_id)]
    closest = max(found, key=lambda match: match.similarity, default=None)
    return closest if closest is not None and closest.similarity >= ALIKE else None


def _protected(session: Session, keyring: KeyRing, heard: Heard) -> Iterator[Match]:
    kept = select(ProtectedVoice).where(ProtectedVoice.removed_at.is_(None), ProtectedVoice.model == heard.model)
    for row in session.scalars(kept):
        vector = np.frombuffer(unseal_plain(keyring, row.sealed, _protected_place(row.id)), dtype="<f4")
        yield Match(float(heard.voice @ vector), ALIKE, protected_id=row.id)


def _others(session: Session, keyring: KeyRing, heard: Heard, voice: Voice, subject_id: str) -> Iterator[Match]:
    """Voices of other tenants. A tenant's own speakers are its own to know."""
    prints = select(VoicePrint, Subject).join(Subject, Subject.id == VoicePrint.subject_id)
    prints = prints.where(VoicePrint.model == heard.model, VoicePrint.subject_id != subject_id)
    for row, subject in session.execute(prints.where(Subject.tenant_id != voice.tenant_id)):
        try:
            vector = np.frombuffer(unseal(keyring, subject, row.sealed, _place(row.voice_id)), dtype="<f4")
        except Erased:
            continue
        yield Match(float(heard.voice @ vector), ALIKE, voice_id=row.voice_id)


def _place(voice_id: str) -> bytes:
    return f"voice_print.sealed:{voice_id}".encode()


def _protected_place(protected_id: str) -> bytes:
    return f"protected_voice.sealed:{protected_id}".encode()


def _note_place(protected_id: str) -> bytes:
    return f"protected_voice.note_sealed:{protected_id}".encode()

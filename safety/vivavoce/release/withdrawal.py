"""A speaker takes their word back: the consent, and all that hangs on it. The caller owns the transactions.

Once `withdraw` or `erase` is committed nothing more is made, released or handed out; queued and running jobs have
ended, and outputs that nobody had fetched are withheld. A worker that is busy with such a job drops it at its next
heartbeat, and is refused at the release before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, select, update
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.service import revoke
from vivavoce.ledger.envelope import destroy_subject_key
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.rights import Invitation, Verification, VoicePrint
from vivavoce.ledger.streams import OutputChunk, OutputStream
from vivavoce.ledger.tables import (
    AuditPayload,
    Consent,
    ConsentStatus,
    Job,
    JobStatus,
    Output,
    ReferenceClip,
    Subject,
    Voice,
)
from vivavoce.ledger.webhooks import Event, announce
from vivavoce.release.deletion import doom
from vivavoce.release.outcome import refuse

MOST_AT_ONCE = 200
"""Jobs that are ended together with a withdrawal; the log's lock must not be held for long. Workers refuse the
rest when they come to it, and their reapers end it."""

_NOBODY = "there is no such person"
_DETAILS = {
    "consent_revoked": "the speaker has withdrawn the consent",
    "consent_erased": "the speaker has been erased",
    "consent_expired": "the consent has run out",
    "voice_deleted": "the voice has been deleted",
}


@dataclass(frozen=True)
class Erasure:
    """What an erasure took with it; all zero where nothing was left."""

    consents: int = 0
    voices: int = 0
    jobs: int = 0
    outputs: int = 0
    objects: int = 0


def withdraw(session: Session, log: Log, consent_id: str, reason: str, actor: str, now: datetime) -> Consent:
    """Withdraw a consent with all that hangs on it, for good and at once. Withdrawing again changes nothing.

    Raises:
        ConsentRefused: `unknown_consent`, or `consent_erased`: there is nobody left to withdraw.
        LogUnavailable: The log cannot be written. Nothing was withdrawn.
    """
    consent = revoke(session, log, consent_id, reason, actor, now)
    _end_jobs(session, log, Job.consent_id == consent_id, "consent_revoked", actor, now)
    withheld = _withhold(session, Output.consent_id == consent_id, "consent_revoked", now)
    if withheld:
        refs = {"consent": consent.id, "subject": consent.subject_id}
        facts: dict[str, Json] = {"code": "consent_revoked", "outputs": withheld}
        log.append(session, Entry(Tag.OUTPUT_WITHHOLD, consent.tenant_id, actor, refs, facts))
    return consent


def erase(session: Session, log: Log, subject_id: str, actor: str, now: datetime) -> Erasure:
    """Erase a person: destroy their key, blank what was sealed, and write their objects down to be deleted.

    What is left names nobody: identifiers, what was agreed to, digests of what was made, and the log. Receipts and
    proofs verify as before. Call `delete_doomed` once it is committed. Erasing again changes nothing.

    Raises:
        ConsentRefused: `unknown_subject`.
        LogUnavailable: The log cannot be written. Nothing was erased.
    """
    if not is_id(subject_id):
        raise ConsentRefused("unknown_subject", _NOBODY)
    # Rows before the log, in one order. Releases, downloads and new voices hold the consent, so they come before us or
    # after; admissions hold the log, and have committed their job by the time our own entry is appended.
    locked = select(Consent).where(Consent.subject_id == subject_id).order_by(Consent.id)
    consents = session.scalars(locked.with_for_update(key_share=True).execution_options(populate_existing=True)).all()
    subject = session.get(Subject, subject_id, populate_existing=True)
    if subject is None:
        raise ConsentRefused("unknown_subject", _NOBODY)
    if subject.wrapped_key is None:
        return Erasure()
    mine = [consent.id for consent in consents]
    voices = session.scalars(select(Voice).where(Voice.consent_id.in_(mine))).all()
    outputs = session.scalars(select(Output.id).where(Output.subject_id == subject_id)).all()
    counts = {"consents": len(consents), "voices": len(voices), "outputs": len(outputs)}
    log.append(session, Entry(Tag.SUBJECT_ERASE, subject.tenant_id, actor, {"subject": subject.id}, counts))
    for consent in consents:
        if consent.status not in (ConsentStatus.REVOKED, ConsentStatus.REJECTED):
            announce(session, consent.tenant_id, Event.CONSENT_REVOKED, {"consent": consent.id}, now)
    jobs = _end_jobs(session, log, Job.subject_id == subject_id, "consent_erased", actor, now)
    objects = doom(session, _objects(session, subject_id, list(consents)), "erased", now)
    destroy_subject_key(subject, now)
    _blank(session, subject_id, list(consents), list(voices), now)
    _withhold(session, Output.subject_id == subject_id, "consent_erased", now)
    session.flush()
    return Erasure(**counts, jobs=jobs, objects=objects)


def _end_jobs(session: Session, log: Log, which: ColumnElement[bool], code: str, actor: str, now: datetime) -> int:
    """End queued and running jobs as refused, at most `MOST_AT_ONCE` of them; returns how many."""
    unended = select(Job.id).where(Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)), which)
    # Skipping: who holds such a row is about to begin, cancel, release or end it, and may be waiting for the log or the
    # consent that we hold.
    unended = unended.order_by(Job.created_at).limit(MOST_AT_ONCE).with_for_update(skip_locked=True)
    ids = session.scalars(unended).all()
    return sum(refuse(session, log, job_id, code, _DETAILS[code], actor=actor, now=now) for job_id in ids)


def end_hopeless(session: Session, log: Log, actor: str, now: datetime) -> int:
    """End jobs that can never be permitted any more; returns how many. For reapers."""
    consent_over = {
        "consent_revoked": Consent.status == ConsentStatus.REVOKED,
        "consent_erased": Consent.status == ConsentStatus.ERASED,
        "consent_expired": Consent.expires_at <= now,
    }
    ended = 0
    for code, over in consent_over.items():
        hopeless = Job.consent_id.in_(select(Consent.id).where(over))
        ended += _end_jobs(session, log, hopeless, code, actor, now)
    deleted = Job.voice_id.in_(select(Voice.id).where(Voice.deleted_at.is_not(None)))
    return ended + _end_jobs(session, log, deleted, "voice_deleted", actor, now)


def _withhold(session: Session, which: ColumnElement[bool], code: str, now: datetime) -> int:
    # Skipping: a download that holds its output waits for the consent that we hold, and will withhold it by itself.
    open_ = select(Output.id).where(which, Output.withheld_at.is_(None)).order_by(Output.id)
    open_ = open_.with_for_update(key_share=True, skip_locked=True)
    withheld = update(Output).where(Output.id.in_(open_)).values(withheld_at=now, withheld_reason=code)
    result: CursorResult[Any] = session.connection().execute(withheld)
    session.expire_all()
    return result.rowcount


def _objects(session: Session, subject_id: str, consents: list[Consent]) -> set[str]:
    """Name everything in the store that is sealed under a subject's key."""
    clips = select(ReferenceClip.object_key).join(Voice, Voice.id == ReferenceClip.voice_id)
    clips = clips.join(Consent, Consent.id == Voice.consent_id).where(Consent.subject_id == subject_id)
    requests = select(Job.request_key, Job.input_key).where(Job.subject_id == subject_id)
    keys = {consent.recording_key for consent in consents}
    keys |= set(session.scalars(clips))
    keys |= {key for row in session.execute(requests) for key in row if key is not None}
    return keys | set(session.scalars(select(Output.object_key).where(Output.subject_id == subject_id)))


def _blank(session: Session, subject_id: str, consents: list[Consent], voices: list[Voice], now: datetime) -> None:
    """Take out of the rows what speaks of a person. It is unreadable by now; there is no reason to keep it either."""
    for consent in consents:
        consent.status = ConsentStatus.ERASED
        consent.name_sealed, consent.guardian_sealed = b"", None
        consent.recording_sha256, consent.revoked_reason = "", None
    for voice in voices:
        voice.name = "erased"
    of_them = ReferenceClip.voice_id.in_([voice.id for voice in voices])
    session.execute(update(ReferenceClip).where(of_them).values(transcript_sealed=b"", sha256=""))
    mine = [consent.id for consent in consents]
    told = update(Verification).where(Verification.consent_id.in_(mine))
    session.execute(told.values(text_sealed=b"", transcript_sealed=None))
    # Sealed under the installation's key: whom it was for would outlive the subject's.
    session.execute(update(Invitation).where(Invitation.consent_id.in_(mine)).values(sealed=b"", closed_at=now))
    streams = select(OutputStream.id).where(OutputStream.subject_id == subject_id)
    session.execute(delete(OutputChunk).where(OutputChunk.stream_id.in_(streams)))
    session.execute(delete(VoicePrint).where(VoicePrint.subject_id == subject_id))
    session.execute(delete(AuditPayload).where(AuditPayload.subject_id == subject_id))

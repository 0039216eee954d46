"""What is kept no longer than it may be: recordings, sounds and requests whose time is over are written down to go.

The proof stays: rows, digests and the log name what there was. The caller owns the transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.profiles import profile_of
from vivavoce.ledger.rights import Challenge, DoomedObject, Invitation, Verification, VoicePrint
from vivavoce.ledger.streams import OutputChunk, OutputStream
from vivavoce.ledger.tables import Consent, ConsentStatus, Job, JobKind, JobStatus, Output, ReferenceClip, Tenant, Voice
from vivavoce.ledger.webhooks import WebhookDelivery
from vivavoce.policy.text_reviews import forget_unread
from vivavoce.release.deletion import doom
from vivavoce.release.withdrawal import erase

REJECTED_KEPT = timedelta(days=30)
"""How long the recording of a consent that was not accepted is kept, in case somebody asks why; then its speaker, where
nothing of theirs was ever accepted, is erased."""
UPLOAD_KEPT = timedelta(days=1)
"""How long a sound that was only to be looked at is kept after the answer."""
DELIVERY_KEPT = timedelta(days=30)
"""How long one can read whether a webhook was delivered; counted from its event, and only once no attempt is left."""
CHUNKS_KEPT = timedelta(minutes=10)
"""How long the chunks of a stream can be taken after its job has ended; the whole is an output then, or nothing."""

_OVER = "retention_over"
_PAGE = 200
"""Rows of a kind that one transaction takes; the log's lock must not be held for long."""


def retire(session: Session, log: Log, actor: str, now: datetime) -> int:
    """Write down a page of what must be deleted now; returns the number of objects and deliveries. Call until none.

    `deletion.delete_doomed` then deletes the objects.

    Raises:
        LogUnavailable: The log cannot be written. Nothing was written down.
    """
    _forget_challenges(session, now)
    forget_unread(session, now)
    gone = _forget_deliveries(session, now) + _forget_chunks(session, now)
    gone += _attempts(session, log, actor, now) + _recordings(session, log, actor, now)
    for tenant_id in session.scalars(select(Tenant.id).order_by(Tenant.id)):
        over = now - profile_of(session, tenant_id).kept
        gone += _outputs(session, log, tenant_id, over, actor, now)
        gone += _requests(session, tenant_id, over, now)
    return gone


def forget_upload(session: Session, job: Job, now: datetime) -> None:
    """Write down at once that what was handed in for a job must be deleted, and forget what it found."""
    job.purged_at = now
    if JobStatus(job.status).final:
        job.result = None
    doom(session, [key for key in (job.request_key, job.input_key) if key is not None], "retention", now)


def _attempts(session: Session, log: Log, actor: str, now: datetime) -> int:
    """Erase who was only ever rejected: no link leads to them, and there is nothing to keep them for."""
    late = (Consent.status == ConsentStatus.REJECTED) & (Consent.decided_at <= now - REJECTED_KEPT)
    other = select(Consent.subject_id).where(~late)
    only = select(Consent.subject_id).where(late, Consent.subject_id.not_in(other)).distinct().limit(_PAGE)
    mine = select(Consent).where(Consent.subject_id.in_(only.subquery().select()))
    # All rows before the log; who holds one of them is met at the next look.
    held = session.scalars(mine.order_by(Consent.id).with_for_update(key_share=True, skip_locked=True)).all()
    ids, gone = {consent.id for consent in held}, 0
    for subject_id in sorted({consent.subject_id for consent in held}):
        if ids.issuperset(session.scalars(select(Consent.id).where(Consent.subject_id == subject_id))):
            gone += erase(session, log, subject_id, actor, now).objects
    return gone


def _recordings(session: Session, log: Log, actor: str, now: datetime) -> int:
    """What speakers handed in for consents that have run out or were rejected. One that was renewed has new voices."""
    rejected = (Consent.status == ConsentStatus.REJECTED) & (Consent.decided_at <= now - REJECTED_KEPT)
    over = (
        Consent.purged_at.is_(None)
        & (Consent.status != ConsentStatus.ERASED)
        & or_(Consent.expires_at <= now, rejected)
    )
    locked = select(Consent).where(over).order_by(Consent.id).limit(_PAGE)
    total = 0
    for consent in session.scalars(locked.with_for_update(key_share=True, skip_locked=True)).all():
        voices = session.scalars(select(Voice.id).where(Voice.consent_id == consent.id)).all()
        clips = session.scalars(select(ReferenceClip.object_key).where(ReferenceClip.voice_id.in_(voices))).all()
        total += doom(session, [consent.recording_key, *clips], "retention", now)
        blank = update(ReferenceClip).where(ReferenceClip.voice_id.in_(voices))
        session.execute(blank.values(transcript_sealed=b"", sha256=""))
        session.execute(delete(VoicePrint).where(VoicePrint.voice_id.in_(voices)))
        told = update(Verification).where(Verification.consent_id == consent.id)
        session.execute(told.values(transcript_sealed=None))
        consent.purged_at = now
        refs = {"consent": consent.id, "subject": consent.subject_id}
        log.append(session, Entry(Tag.CONSENT_PURGE, consent.tenant_id, actor, refs, {"objects": 1 + len(clips)}))
    return total


def _outputs(session: Session, log: Log, tenant_id: str, over: datetime, actor: str, now: datetime) -> int:
    old = select(Output).where(Output.tenant_id == tenant_id, Output.created_at <= over, Output.deleted_at.is_(None))
    old = old.where(Output.object_key.not_in(select(DoomedObject.object_key))).order_by(Output.id).limit(_PAGE)
    outputs = session.scalars(old.with_for_update(key_share=True, skip_locked=True)).all()
    if not outputs:
        return 0
    for output in outputs:
        if output.withheld_at is None:
            output.withheld_at, output.withheld_reason = now, _OVER
    facts: dict[str, Json] = {"code": _OVER, "outputs": len(outputs)}
    log.append(session, Entry(Tag.OUTPUT_WITHHOLD, tenant_id, actor, {}, facts))
    return doom(session, [output.object_key for output in outputs], "retention", now)


def _requests(session: Session, tenant_id: str, over: datetime, now: datetime) -> int:
    detection = (Job.kind == JobKind.DETECTION) & (Job.finished_at <= now - UPLOAD_KEPT)
    old = select(Job).where(
        Job.tenant_id == tenant_id, Job.purged_at.is_(None), or_(Job.finished_at <= over, detection)
    )
    jobs = session.scalars(old.order_by(Job.id).limit(_PAGE).with_for_update(key_share=True, skip_locked=True)).all()
    for job in jobs:
        job.purged_at = now
    keys = {key for job in jobs for key in (job.request_key, job.input_key) if key is not None}
    return doom(session, keys, "retention", now)


def _forget_deliveries(session: Session, now: datetime) -> int:
    ended = WebhookDelivery.next_at.is_(None) & (WebhookDelivery.created_at <= now - DELIVERY_KEPT)
    page = session.scalars(select(WebhookDelivery.id).where(ended).order_by(WebhookDelivery.id).limit(_PAGE)).all()
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(page)))
    return len(page)


def _forget_chunks(session: Session, now: datetime) -> int:
    ended = select(OutputChunk.stream_id).distinct().join(OutputStream, OutputStream.id == OutputChunk.stream_id)
    ended = ended.join(Job, Job.id == OutputStream.job_id).where(Job.finished_at <= now - CHUNKS_KEPT)
    page = session.scalars(ended.limit(_PAGE)).all()
    session.execute(delete(OutputChunk).where(OutputChunk.stream_id.in_(page)))
    return len(page)


def _forget_challenges(session: Session, now: datetime) -> None:
    over = update(Challenge).where(Challenge.expires_at <= now, Challenge.sealed != b"")
    session.execute(over.values(sealed=b""))
    unanswered = update(Invitation).where(Invitation.expires_at <= now, Invitation.sealed != b"")
    session.execute(unanswered.values(sealed=b""))

"""Consents in time: suspended, put back in force, renewed. The caller owns the transaction."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import (
    Guardian,
    Recording,
    Relationship,
    create_consent,
    guardian_name,
    speaker_name,
)
from vivavoce.consent.errors import ConsentInvalid, ConsentRefused
from vivavoce.consent.names import plain_text
from vivavoce.consent.scope import Scope
from vivavoce.consent.service import MAX_REASON_CHARACTERS, effective_status, lock_consent
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Assurance, Consent, ConsentStatus, Subject, Voice

By = Literal["tenant", "admin"]


def suspend(session: Session, log: Log, consent_id: str, reason: str, actor: str, by: By, now: datetime) -> Consent:
    """Put a consent out of force until it is lifted. Suspending again changes nothing, except that an admin's wins.

    Args:
        reason: Sealed in the log, since it may be personal.

    Raises:
        ConsentInvalid: reason_empty, reason_too_long, reason_control_characters.
        ConsentRefused: unknown_consent, or the consent is not in force.
    """
    consent, reason = _held(session, consent_id), plain_reason(reason)
    status = effective_status(consent, now)
    if status is ConsentStatus.SUSPENDED and (consent.suspended_by == "admin" or by == "tenant"):
        return consent
    if status not in (ConsentStatus.VERIFIED, ConsentStatus.SUSPENDED):
        raise ConsentRefused(f"consent_{status}", f"the consent is {status}: there is nothing to suspend")
    _log(session, log, Tag.CONSENT_SUSPEND, consent, reason, actor, by)
    consent.status, consent.suspended_by = ConsentStatus.SUSPENDED, by
    session.flush()
    return consent


def lift(session: Session, log: Log, consent_id: str, reason: str, actor: str, by: By) -> Consent:
    """Put a suspended consent back in force, if it has not run out meanwhile. Lifting again changes nothing.

    Raises:
        ConsentInvalid: As `suspend`.
        ConsentRefused: unknown_consent; suspended_by_admin, which a tenant cannot lift; or it has ended.
    """
    consent, reason = _held(session, consent_id), plain_reason(reason)
    if consent.status == ConsentStatus.VERIFIED:
        return consent
    if consent.status != ConsentStatus.SUSPENDED:
        raise ConsentRefused(f"consent_{consent.status}", f"the consent is {consent.status}, not suspended")
    if consent.suspended_by == "admin" and by == "tenant":
        raise ConsentRefused("suspended_by_admin", "an admin has suspended the consent, and only an admin can lift it")
    _log(session, log, Tag.CONSENT_LIFT, consent, reason, actor, by)
    consent.status, consent.suspended_by = ConsentStatus.VERIFIED, None
    session.flush()
    return consent


def renew(
    session: Session,
    log: Log,
    store: ObjectStore,
    keyring: KeyRing,
    consent_id: str,
    *,
    actor: str,
    recording: Recording,
    language: str,
    scope: Scope,
    now: datetime,
) -> Consent:
    """Take a speaker's new word in place of an earlier one: a new consent that links to it and takes its voices over.

    The earlier consent stays as it is. Jobs that were granted under it and still wait are refused.

    Raises:
        ConsentInvalid: As `create_consent`.
        ConsentRefused: unknown_consent, already_renewed, or the earlier consent was withdrawn, suspended, rejected or
            erased: then a new consent must be given.
    """
    earlier = _held(session, consent_id)
    status = effective_status(earlier, now)
    if status not in (ConsentStatus.VERIFIED, ConsentStatus.EXPIRED):
        raise ConsentRefused(f"consent_{status}", f"the consent is {status} and cannot be renewed")
    if session.scalars(select(Consent.id).where(Consent.renews == earlier.id)).first() is not None:
        raise ConsentRefused("already_renewed", "the consent has been renewed; renew the newer one")
    voices = select(Voice).where(Voice.consent_id == earlier.id).order_by(Voice.id)
    taken = session.scalars(voices.with_for_update(key_share=True)).all()
    made = create_consent(
        session,
        log,
        store,
        keyring,
        tenant_id=earlier.tenant_id,
        actor=actor,
        name=speaker_name(session, keyring, earlier),
        recording=recording,
        language=language,
        scope=scope,
        guardian=_guardian(session, keyring, earlier),
        renews=earlier,
        now=now,
    )
    for voice in taken:
        voice.consent_id = made.id
        if voice.standing == "ready":
            voice.standing = "checking"  # compared with the earlier recording, not with this one
    session.flush()
    return made


def plain_reason(reason: str) -> str:
    """Check a reason: one line of plain text; raises `ConsentInvalid`."""
    reason = plain_text("reason", reason, MAX_REASON_CHARACTERS)
    if not reason:
        raise ConsentInvalid("reason_empty", "a reason is needed")
    return reason


def _guardian(session: Session, keyring: KeyRing, consent: Consent) -> Guardian | None:
    name = guardian_name(session, keyring, consent)
    if name is None or consent.guardian_relationship is None or consent.guardian_assurance is None:
        return None
    return Guardian(name, Relationship(consent.guardian_relationship), Assurance(consent.guardian_assurance))


def _held(session: Session, consent_id: str) -> Consent:
    consent = lock_consent(session, consent_id)
    if consent is None:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    return consent


def _log(session: Session, log: Log, tag: Tag, consent: Consent, reason: str, actor: str, by: By) -> None:
    refs = {"consent": consent.id, "subject": consent.subject_id}
    subject = session.get_one(Subject, consent.subject_id, populate_existing=True)
    personal = json.dumps({"reason": reason}).encode()
    log.append(session, Entry(tag, consent.tenant_id, actor, refs, {"by": by}), personal=personal, subject=subject)

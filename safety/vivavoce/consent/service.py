"""Reading, asking and withdrawing consents. The caller owns the transaction.

`authorize` is the question that is asked three times for every sound: does a consent cover this, now?
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import Recording, check_recording, create_consent, speaker_name
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.profiles import Profile, profile_of, weaker
from vivavoce.consent.scope import covers_language
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import Consent, ConsentStatus, Subject, Voice
from vivavoce.ledger.webhooks import Event, announce

__all__ = [
    "Authorization",
    "Recording",
    "authorize",
    "check_recording",
    "create_consent",
    "effective_status",
    "find_consent",
    "lock_consent",
    "require_in_force",
    "revoke",
    "speaker_name",
]

MAX_REASON_CHARACTERS = 500

_WHY = {
    ConsentStatus.PENDING: "the consent has not been decided yet",
    ConsentStatus.REJECTED: "the consent was rejected",
    ConsentStatus.SUSPENDED: "the consent is suspended until a review",
    ConsentStatus.REVOKED: "the speaker has withdrawn the consent",
    ConsentStatus.EXPIRED: "the consent has run out",
    ConsentStatus.ERASED: "the speaker has been erased",
}

_HELD = {
    "review": "the voice sounds like somebody's who must be protected, or not like who consented; an admin decides",
    "refused": "the voice may not be used: its clips are not of who consented, or an admin has refused it",
}


@dataclass(frozen=True)
class Authorization:
    """A consent that covers what was asked, and how well it was established."""

    consent_id: str
    voice_id: str
    subject_id: str
    assurance: str
    expires_at: datetime
    language: str | None
    """What will be spoken, where the request names it."""


def find_consent(session: Session, tenant_id: str, consent_id: str) -> Consent:
    """Read a tenant's consent; raises `ConsentRefused` (unknown_consent) for others' as for none."""
    consent = session.get(Consent, consent_id) if is_id(consent_id) else None
    if consent is None or consent.tenant_id != tenant_id:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    return consent


def effective_status(consent: Consent, now: datetime) -> ConsentStatus:
    """Give a consent's status at a moment. Time alone ends a consent: no clock job has to write that down first."""
    status = ConsentStatus(consent.status)
    if status is ConsentStatus.VERIFIED and now >= consent.expires_at:
        return ConsentStatus.EXPIRED
    return status


def revoke(session: Session, log: Log, consent_id: str, reason: str, actor: str, now: datetime) -> Consent:
    """Withdraw a consent, for good and at once: what is queued, running or waiting for download is not delivered.

    Withdrawing again changes nothing. It waits for a release that is being committed under this consent; whichever
    comes first, a download after this transaction is refused.

    Args:
        reason: In the speaker's or tenant's words; sealed in the log, since it may be personal.

    Raises:
        ConsentRefused: `unknown_consent`, or `consent_erased`: there is nobody left to withdraw.
    """
    consent = lock_consent(session, consent_id)
    if consent is None:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    if consent.status == ConsentStatus.REVOKED:
        return consent
    subject = session.get_one(Subject, consent.subject_id)
    if consent.status == ConsentStatus.ERASED or subject.wrapped_key is None:
        raise ConsentRefused("consent_erased", "the speaker has been erased; nothing is left to withdraw")
    reason = reason[:MAX_REASON_CHARACTERS]
    entry = Entry(
        Tag.CONSENT_REVOKE,
        consent.tenant_id,
        actor,
        refs={"consent": consent.id, "subject": consent.subject_id},
        facts={"status_before": str(effective_status(consent, now))},
    )
    log.append(session, entry, personal=json.dumps({"reason": reason}).encode(), subject=subject)
    consent.status = ConsentStatus.REVOKED
    consent.revoked_at = now
    consent.revoked_reason = reason
    announce(session, consent.tenant_id, Event.CONSENT_REVOKED, {"consent": consent.id}, now)
    session.flush()
    return consent


def lock_consent(session: Session, consent_id: str, *, share: bool = False) -> Consent | None:
    """Read a consent as it is now and hold it so until the transaction ends.

    Args:
        share: Others may hold it too, and only a change has to wait.
    """
    # NO KEY UPDATE, not UPDATE: a job that is being admitted takes KEY SHARE on the row by its foreign key while it
    # holds the log's lock, which `revoke` takes next. They would wait for each other.
    if not is_id(consent_id):
        return None
    locked = select(Consent).where(Consent.id == consent_id).execution_options(populate_existing=True)
    locked = locked.with_for_update(read=True) if share else locked.with_for_update(key_share=True)
    return session.scalars(locked).one_or_none()


def authorize(
    session: Session,
    *,
    tenant_id: str,
    voice_id: str,
    operation: str,
    purpose: str,
    now: datetime,
    language: str | None = None,
    territory: str | None = None,
    commercial: bool = False,
    lock: bool = False,
) -> Authorization:
    """Find the consent behind a voice and check that it covers an operation for a purpose, now.

    Args:
        language: BCP 47 tag of what will be said, where the request names it.
        territory: Country (ISO 3166-1) in which it will be used, where the request names it.
        commercial: Whether it will earn money.
        lock: Keep the answer true until the transaction ends: a withdrawal then waits for it (write transactions).

    Raises:
        ConsentRefused: It does not; the code says why. Another tenant's voice is an unknown voice.
    """
    voice = session.get(Voice, voice_id, populate_existing=True) if is_id(voice_id) else None
    if voice is None or voice.tenant_id != tenant_id:
        raise ConsentRefused("unknown_voice", "there is no such voice")
    if voice.deleted_at is not None:
        raise ConsentRefused("voice_deleted", "the voice has been deleted")
    require_standing(voice.standing)
    consent = require_in_force(session, voice.consent_id, now, lock=lock)
    if consent.tenant_id != tenant_id:
        raise ConsentRefused("unknown_voice", "there is no such voice")
    _require_covered(consent, operation, purpose, language)
    _require_bounds(consent, territory, commercial=commercial)
    _require_permitted(profile_of(session, tenant_id), consent, purpose)
    return Authorization(consent.id, voice.id, consent.subject_id, consent.assurance, consent.expires_at, language)


def require_standing(standing: str) -> None:
    """Refuse a voice that a review holds or has refused; raises `ConsentRefused`."""
    if standing in _HELD:
        raise ConsentRefused(f"voice_{standing}", _HELD[standing])


def require_in_force(session: Session, consent_id: str, now: datetime, *, lock: bool = False) -> Consent:
    """Read a consent that is verified, begun, and not ended, withdrawn or erased.

    Raises:
        ConsentRefused: It is not in force; the code says why.
    """
    if lock:
        consent = lock_consent(session, consent_id, share=True)
    else:
        consent = session.get(Consent, consent_id, populate_existing=True)
    if consent is None:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    subject = session.get_one(Subject, consent.subject_id, populate_existing=True)
    status = ConsentStatus.ERASED if subject.wrapped_key is None else effective_status(consent, now)
    if status is not ConsentStatus.VERIFIED:
        raise ConsentRefused(f"consent_{status}", _WHY[status])
    if now < consent.valid_from:
        raise ConsentRefused("consent_not_yet_valid", "the consent begins later")
    return consent


def _require_covered(consent: Consent, operation: str, purpose: str, language: str | None) -> None:
    if operation not in consent.operations:
        raise ConsentRefused("operation_not_covered", f"the consent does not cover {operation}")
    if purpose not in consent.purposes:
        raise ConsentRefused("purpose_not_covered", f"the consent does not cover the purpose {purpose}")
    if not covers_language(consent.languages, language):
        allowed = ", ".join(consent.languages)
        raise ConsentRefused("language_not_covered", f"the consent covers {allowed}, and the request must name one")


def _require_bounds(consent: Consent, territory: str | None, *, commercial: bool) -> None:
    if consent.territory and territory not in consent.territory:
        allowed = ", ".join(consent.territory)
        raise ConsentRefused("territory_not_covered", f"the consent covers {allowed}, and the request must name one")
    if commercial and not consent.commercial:
        raise ConsentRefused("commercial_not_covered", "the consent does not cover commercial use")


def _require_permitted(rules: Profile, consent: Consent, purpose: str) -> None:
    """Ask the tenant's compliance profile, which may have become stricter since the consent was given."""
    if weaker(consent.assurance, rules.least_assurance):
        detail = f"the consent is {consent.assurance}; here it must be {rules.least_assurance} at least"
        raise ConsentRefused("assurance_too_low", detail)
    if purpose in rules.purposes_refused:
        raise ConsentRefused("purpose_refused", f"the tenant's compliance profile refuses the purpose {purpose}")

"""Recording a person's consent: the evidence, the row, the key, the leaf. The caller owns the transaction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.claims import refuse_generated
from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.names import plain_name
from vivavoce.consent.profiles import profile_of, require_permitted
from vivavoce.consent.scope import LONGEST_MINORS_LIFETIME, Scope
from vivavoce.consent.statements import Statement, statement
from vivavoce.ledger.envelope import new_subject_key, seal, unseal
from vivavoce.ledger.errors import SealBroken
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.staged import put_staged
from vivavoce.ledger.tables import Assurance, Consent, ConsentStatus, Subject
from vivavoce.sound import decode, require_speech

MIN_RECORDING_SECONDS = 2.0
MAX_RECORDING_SECONDS = 120.0


@dataclass(frozen=True)
class Recording:
    """A sound file in which somebody speaks; made by `check_recording`."""

    data: bytes
    sha256: str
    seconds: float


class Relationship(StrEnum):
    """What a guardian is to a minor."""

    PARENT = "parent"
    LEGAL_GUARDIAN = "legal_guardian"


@dataclass(frozen=True)
class Guardian:
    """Who consents for a minor, and how well that is established."""

    name: str
    relationship: Relationship
    assurance: Assurance = Assurance.ATTESTED


def check_recording(data: bytes) -> Recording:
    """Check that a file can be a consent recording, before any transaction is opened for it.

    Raises:
        SoundError: Not a readable sound file, or not 2 to 120 s of something louder than silence.
        ConsentInvalid: recording_is_generated.
    """
    sound = decode(data, max_seconds=MAX_RECORDING_SECONDS)
    require_speech(sound, MIN_RECORDING_SECONDS)
    refuse_generated(data)
    return Recording(data, hashlib.sha256(data).hexdigest(), sound.seconds)


def create_consent(
    session: Session,
    log: Log,
    store: ObjectStore,
    keyring: KeyRing,
    *,
    tenant_id: str,
    actor: str,
    name: str,
    recording: Recording,
    language: str,
    now: datetime,
    scope: Scope = Scope(),  # noqa: B008 - frozen
    guardian: Guardian | None = None,
    renews: Consent | None = None,
    speaker: Subject | None = None,
    assurance: Assurance = Assurance.ATTESTED,
) -> Consent:
    """Record a person's consent: the person's row and key, the sealed evidence, and a leaf.

    An attested one is in force at once: the tenant says who spoke, and nothing has verified it. All others wait.

    Args:
        actor: Who records it, such as the id of an API key.
        name: The speaker's name; sealed under the subject's key.
        language: Language of the statement that was read (BCP 47).
        guardian: Who consents for a speaker who is a minor; a minor's consent lasts five years at most.
        renews: The earlier consent of the same person, held by the caller (`standing.renew`).
        speaker: Who is known to speak, from an earlier attempt; a new person else.

    Raises:
        ConsentInvalid: A name is empty, too long or not text, there is no statement in that language, or the lifetime
            is out of range for a minor or by the tenant's compliance profile, which may refuse a purpose too.
        LogUnavailable: The log cannot be written. Nothing was recorded.
    """
    name, read = plain_name(name), statement(language)
    _require_allowed(session, tenant_id, scope, guardian)
    if renews is not None:
        speaker = session.get_one(Subject, renews.subject_id)
    subject = speaker or _new_subject(session, keyring, tenant_id, now)
    consent = _row(subject, tenant_id, read, language, scope, assurance, recording, now)
    consent.renews = None if renews is None else renews.id
    consent.name_sealed = seal(keyring, subject, name.encode(), _name_place(consent.id))
    if guardian is not None:
        sealed = seal(keyring, subject, plain_name(guardian.name).encode(), _guardian_place(consent.id))
        consent.guardian_sealed = sealed
        consent.guardian_relationship, consent.guardian_assurance = guardian.relationship, guardian.assurance
    entry, personal = _creation(consent, read, recording, actor), {"name": name, "recording_sha256": recording.sha256}
    consent.leaf_index = log.append(session, entry, personal=json.dumps(personal).encode(), subject=subject)
    session.add(consent)
    session.flush()
    place = consent.recording_key
    put_staged(session, store, place, seal(keyring, subject, recording.data, place.encode()))
    return consent


def _require_allowed(session: Session, tenant_id: str, scope: Scope, guardian: Guardian | None) -> None:
    if guardian is not None and scope.lifetime > LONGEST_MINORS_LIFETIME:
        raise ConsentInvalid("lifetime_out_of_range", f"a minor's lasts {LONGEST_MINORS_LIFETIME.days} days at most")
    require_permitted(profile_of(session, tenant_id), scope)


def _row(
    subject: Subject, tenant_id: str, read: Statement, language: str, scope: Scope, assurance: Assurance,
    recording: Recording, now: datetime,
) -> Consent:  # fmt: skip
    attested, consent_id = assurance is Assurance.ATTESTED, new_id("cons")
    return Consent(
        id=consent_id,
        subject_id=subject.id,
        tenant_id=tenant_id,
        statement_id=read.id,
        statement_version=read.version,
        language=language,
        operations=sorted(scope.operations),
        purposes=sorted(scope.purposes),
        languages=list(scope.languages),
        territory=list(scope.territory),
        commercial=scope.commercial,
        valid_from=now,
        expires_at=now + scope.lifetime,
        status=ConsentStatus.VERIFIED if attested else ConsentStatus.PENDING,
        assurance=assurance,
        recording_key=recording_key(consent_id),
        recording_sha256=recording.sha256,
        created_at=now,
        decided_at=now if attested else None,
    )


def speaker_name(session: Session, keyring: KeyRing, consent: Consent) -> str:
    """Unseal the speaker's name; raises `Erased` once the person has left."""
    subject = session.get_one(Subject, consent.subject_id)
    return unseal(keyring, subject, consent.name_sealed, _name_place(consent.id)).decode()


def guardian_name(session: Session, keyring: KeyRing, consent: Consent) -> str | None:
    """Unseal the name of who consented for a minor; None for adults. Raises `Erased` once the person has left."""
    if consent.guardian_sealed is None:
        return None
    subject = session.get_one(Subject, consent.subject_id)
    return unseal(keyring, subject, consent.guardian_sealed, _guardian_place(consent.id)).decode()


def rename(session: Session, log: Log, keyring: KeyRing, consent: Consent, name: str, actor: str) -> None:
    """Correct the speaker's name; nothing else of a consent can be changed.

    Raises:
        ConsentInvalid: The name is empty, too long or not text.
        Erased: The speaker has left.
    """
    name = plain_name(name)
    # The row before the log, as everywhere: a withdrawal that runs beside this would otherwise wait for it for ever.
    session.refresh(consent, with_for_update={"key_share": True})
    subject = session.get_one(Subject, consent.subject_id)
    sealed = seal(keyring, subject, name.encode(), _name_place(consent.id))
    entry = Entry(Tag.CONSENT_UPDATE, consent.tenant_id, actor, {"consent": consent.id, "subject": subject.id})
    log.append(session, entry, personal=json.dumps({"name": name}).encode(), subject=subject)
    consent.name_sealed = sealed


def recording_key(consent_id: str) -> str:
    """Name the object that holds a consent's sealed recording; also what it is bound to."""
    return f"consents/{consent_id}"


def open_recording(consent: Consent, subject: Subject, store: ObjectStore, keyring: KeyRing) -> bytes:
    """Unseal what the speaker said to consent: the file as it was handed in.

    Raises:
        Erased: The speaker has left.
        SealBroken: It is not the recording that was handed in.
        ObjectMissing: It is gone.
    """
    data = unseal(keyring, subject, store.get(consent.recording_key), consent.recording_key.encode())
    if hashlib.sha256(data).hexdigest() != consent.recording_sha256:
        raise SealBroken(f"{consent.recording_key} is not the recording that was handed in")
    return data


def _new_subject(session: Session, keyring: KeyRing, tenant_id: str, now: datetime) -> Subject:
    subject_id = new_id("sub")
    wrapped = new_subject_key(keyring, subject_id)
    subject = Subject(id=subject_id, tenant_id=tenant_id, wrapped_key=wrapped, created_at=now)
    session.add(subject)
    session.flush()
    return subject


def _creation(consent: Consent, read: Statement, recording: Recording, actor: str) -> Entry:
    facts: dict[str, Any] = {
        "assurance": str(consent.assurance),
        "statement": read.id,
        "statement_version": read.version,
        "statement_sha256": read.sha256,
        "language": consent.language,
        "operations": consent.operations,
        "purposes": consent.purposes,
        "languages": consent.languages,
        "territory": consent.territory,
        "commercial": consent.commercial,
        "valid_from": consent.valid_from.isoformat(),
        "expires_at": consent.expires_at.isoformat(),
        "recording_seconds": round(recording.seconds, 2),
    }
    if consent.guardian_relationship is not None:
        facts |= {"guardian": consent.guardian_relationship, "guardian_assurance": str(consent.guardian_assurance)}
    refs = {"consent": consent.id, "subject": consent.subject_id}
    if consent.renews is not None:
        refs["renews"] = consent.renews
    return Entry(Tag.CONSENT_CREATE, consent.tenant_id, actor, refs=refs, facts=facts)


def _guardian_place(consent_id: str) -> bytes:
    return f"consent.guardian_sealed:{consent_id}".encode()


def _name_place(consent_id: str) -> bytes:
    return f"consent.name_sealed:{consent_id}".encode()

"""Voices: reference clips bound to one consent. The caller owns the transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.claims import refuse_generated
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.names import plain_name, plain_text
from vivavoce.consent.service import find_consent, require_in_force
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.errors import SealBroken
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.staged import put_staged
from vivavoce.ledger.tables import Consent, ReferenceClip, Subject, Voice
from vivavoce.sound import decode, require_speech

MIN_CLIP_SECONDS = 1.0
MAX_CLIP_SECONDS = 30.0
MAX_TRANSCRIPT_CHARACTERS = 2000


@dataclass(frozen=True)
class Clip:
    """A reference recording with what is said in it, where that is known; made by `check_clip`."""

    data: bytes
    sha256: str
    seconds: float
    transcript: str


def check_clip(data: bytes, transcript: str) -> Clip:
    """Check that a file can be a reference clip, before any transaction is opened for it.

    Raises:
        SoundError: Not a readable sound file, or not 1 to 30 s of something louder than silence.
        ConsentInvalid: The transcript is too long or not text, or recording_is_generated.
    """
    text = plain_text("transcript", transcript, MAX_TRANSCRIPT_CHARACTERS)
    sound = decode(data, max_seconds=MAX_CLIP_SECONDS)
    require_speech(sound, MIN_CLIP_SECONDS)
    refuse_generated(data)
    return Clip(data, hashlib.sha256(data).hexdigest(), sound.seconds, text)


def create_voice(
    session: Session,
    log: Log,
    store: ObjectStore,
    keyring: KeyRing,
    *,
    tenant_id: str,
    actor: str,
    name: str,
    consent_id: str,
    clip: Clip,
    now: datetime,
) -> Voice:
    """Found a voice on a clip, under a consent that is in force.

    Whether clip and consent have the same speaker is attested by the tenant; nothing has compared them.

    Raises:
        ConsentRefused: `unknown_consent`, or the consent is not in force.
        ConsentInvalid: The name is empty, too long or not text.
        LogUnavailable: The log cannot be written. Nothing was founded.
    """
    name = plain_name(name)
    consent = _usable(session, tenant_id, consent_id, now)
    subject = session.get_one(Subject, consent.subject_id)
    voice = Voice(id=new_id("voice"), tenant_id=tenant_id, consent_id=consent.id, name=name, created_at=now)
    session.add(voice)
    session.flush()
    log.append(session, _entry(Tag.VOICE_CREATE, voice, consent, actor, {"clip_seconds": round(clip.seconds, 2)}))
    _keep(session, store, keyring, subject, voice, clip)
    return voice


def find_voice(session: Session, tenant_id: str, voice_id: str) -> Voice:
    """Read a tenant's voice; raises `ConsentRefused`: voice_deleted, or unknown_voice for others' as for none."""
    voice = session.get(Voice, voice_id) if is_id(voice_id) else None
    if voice is None or voice.tenant_id != tenant_id:
        raise ConsentRefused("unknown_voice", "there is no such voice")
    if voice.deleted_at is not None:
        raise ConsentRefused("voice_deleted", "the voice has been deleted")
    return voice


def delete_voice(session: Session, log: Log, voice: Voice, actor: str, now: datetime) -> None:
    """Let nobody speak with a voice any more. Its recordings stay sealed until the subject is erased.

    Raises:
        ConsentRefused: `voice_deleted`: somebody else was first.
    """
    # NO KEY UPDATE: a job that is being admitted holds the log's lock and takes KEY SHARE on the row.
    session.refresh(voice, with_for_update={"key_share": True})
    if voice.deleted_at is not None:
        raise ConsentRefused("voice_deleted", "the voice has been deleted")
    voice.deleted_at = now
    consent = session.get_one(Consent, voice.consent_id)
    log.append(session, _entry(Tag.VOICE_DELETE, voice, consent, actor, {}))


def open_clip(clip: ReferenceClip, subject: Subject, store: ObjectStore, keyring: KeyRing) -> tuple[bytes, str]:
    """Unseal a reference clip: the file as it was uploaded, and what is said in it.

    Raises:
        Erased: The speaker has left.
        SealBroken: It is not the clip that the voice was founded on.
        ObjectMissing: It is gone.
    """
    data = unseal(keyring, subject, store.get(clip.object_key), clip.object_key.encode())
    if hashlib.sha256(data).hexdigest() != clip.sha256:
        raise SealBroken(f"{clip.object_key} is not the recording that the voice was founded on")
    return data, unseal(keyring, subject, clip.transcript_sealed, _transcript_place(clip.id)).decode()


def _usable(session: Session, tenant_id: str, consent_id: str, now: datetime) -> Consent:
    find_consent(session, tenant_id, consent_id)
    # Held until the transaction ends: a withdrawal comes before the voice, or after it.
    return require_in_force(session, consent_id, now, lock=True)


def _keep(session: Session, store: ObjectStore, keyring: KeyRing, subject: Subject, voice: Voice, clip: Clip) -> None:
    """Store a clip and what is said in it, sealed under the speaker's key."""
    clip_id = new_id("clip")
    place = f"clips/{clip_id}"
    transcript = seal(keyring, subject, clip.transcript.encode(), _transcript_place(clip_id))
    session.add(
        ReferenceClip(
            id=clip_id,
            voice_id=voice.id,
            object_key=place,
            sha256=clip.sha256,
            seconds=clip.seconds,
            transcript_sealed=transcript,
        )
    )
    session.flush()
    put_staged(session, store, place, seal(keyring, subject, clip.data, place.encode()))


def _entry(tag: Tag, voice: Voice, consent: Consent, actor: str, facts: dict[str, float]) -> Entry:
    refs = {"voice": voice.id, "consent": consent.id, "subject": consent.subject_id}
    return Entry(tag, voice.tenant_id, actor, refs=refs, facts=facts)


def _transcript_place(clip_id: str) -> bytes:
    return f"reference_clip.transcript_sealed:{clip_id}".encode()

"""What is known of a person, for that person: one zip of JSON and their own recordings (GDPR articles 15 and 20).

The caller owns the transaction. What others made with the voice is listed, not enclosed: it leaves by the release
alone.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import NoSuchProof
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import guardian_name, open_recording, speaker_name
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.receipt_issue import issue_receipt
from vivavoce.consent.service import effective_status
from vivavoce.consent.statements import statement
from vivavoce.consent.voices import open_clip
from vivavoce.ledger.errors import Erased, ObjectMissing
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import AuditLeaf, Consent, Job, Output, ReferenceClip, Subject, Tenant, Voice
from vivavoce.policy.likeness import voice_print
from vivavoce.policy.verification import verified
from vivavoce.sound.containers import identify

_SAME = (
    *("id", "language", "operations", "purposes", "languages", "territory", "commercial", "valid_from", "expires_at"),
    *("assurance", "created_at", "revoked_at", "revoked_reason", "renews", "guardian_relationship"),
)


def export_subject(
    session: Session, log: Log, store: ObjectStore, keyring: KeyRing, subject_id: str, actor: str, now: datetime
) -> bytes:
    """Make a person's own file of everything, in a write transaction: the export is logged before it leaves.

    Returns:
        A zip: `subject.json`, `receipts/CONSENT.json`, `recordings/...` as they were handed in. After an erasure it
        says that nothing is left, with the receipts.

    Raises:
        ConsentRefused: `unknown_subject`.
        LogUnavailable: The log cannot be written. Nothing leaves.
        ObjectStoreUnavailable: The store does not answer.
    """
    subject = session.get(Subject, subject_id)
    if subject is None:
        raise ConsentRefused("unknown_subject", "there is no such person")
    log.append(session, Entry(Tag.SUBJECT_EXPORT, subject.tenant_id, actor, {"subject": subject.id}))
    consents = session.scalars(select(Consent).where(Consent.subject_id == subject_id).order_by(Consent.id)).all()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        about = [_consent(session, store, keyring, subject, consent, now, file) for consent in consents]
        for consent in consents:
            try:
                receipt = issue_receipt(session, log, keyring, consent.id, actor, now)
                file.writestr(f"receipts/{consent.id}.json", receipt)
            except NoSuchProof:
                continue  # recorded before consents had entries
        said = {
            "subject": subject.id,
            "exported_at": now,
            "erased_at": subject.erased_at,
            "consents": about,
            "made": _made(session, subject_id),
            "log": _log_entries(session, log, subject, [consent.id for consent in consents]),
        }
        file.writestr("subject.json", json.dumps(said, indent=2, ensure_ascii=False, default=_text))
    return buffer.getvalue()


def _consent(
    session: Session,
    store: ObjectStore,
    keyring: KeyRing,
    subject: Subject,
    consent: Consent,
    now: datetime,
    file: zipfile.ZipFile,
) -> dict[str, Any]:
    read = statement(consent.language, consent.statement_version)
    said: dict[str, Any] = {name: getattr(consent, name) for name in _SAME}
    said |= {"status": effective_status(consent, now), "to": session.get_one(Tenant, consent.tenant_id).name}
    said["statement"] = {"id": read.id, "version": read.version, "text": read.text}
    voices = session.scalars(select(Voice).where(Voice.consent_id == consent.id).order_by(Voice.id)).all()
    said["voices"] = [{"id": voice.id, "name": voice.name, "created_at": voice.created_at} for voice in voices]
    said["verification"] = verified(session, keyring, subject, consent.id)
    try:
        said["name"] = speaker_name(session, keyring, consent)
        said["guardian"] = guardian_name(session, keyring, consent)
        data = open_recording(consent, subject, store, keyring)
        said["recording"] = _enclose(file, f"recordings/{consent.id}", data)
        for voice, kept in zip(voices, said["voices"], strict=True):
            clips = session.scalars(select(ReferenceClip).where(ReferenceClip.voice_id == voice.id))
            kept["clips"] = [_clip(clip, subject, store, keyring, file) for clip in clips]
            kept["print"] = voice_print(session, keyring, subject, voice.id)
    except (Erased, ObjectMissing):
        said["recording"] = None  # erased, or its time was over
    return said


def _clip(
    clip: ReferenceClip, subject: Subject, store: ObjectStore, keyring: KeyRing, file: zipfile.ZipFile
) -> dict[str, str]:
    data, transcript = open_clip(clip, subject, store, keyring)
    return {"recording": _enclose(file, f"recordings/{clip.id}", data), "transcript": transcript}


def _enclose(file: zipfile.ZipFile, name: str, data: bytes) -> str:
    kind = identify(data) or "sound"
    file.writestr(f"{name}.{kind}", data)
    return f"{name}.{kind}"


def _made(session: Session, subject_id: str) -> dict[str, Any]:
    """Say what was made with a person's voice: how much, for what, by whom, when, and the outputs' ids."""
    rows = session.execute(
        select(Output, Job.purpose, Job.kind, Tenant.name)
        .join(Job, Job.id == Output.job_id)
        .join(Tenant, Tenant.id == Output.tenant_id)
        .where(Output.subject_id == subject_id)
        .order_by(Output.id)
    ).all()
    outputs = [
        {
            "output": output.id,
            "by": by,
            "purpose": purpose,
            "kind": kind,
            "at": output.created_at,
            "seconds": round(output.seconds, 2),
            "withheld": output.withheld_reason,
        }
        for output, purpose, kind, by in rows
    ]
    return {"count": len(outputs), "by_purpose": Counter(purpose for _, purpose, _, _ in rows), "outputs": outputs}


def _log_entries(session: Session, log: Log, subject: Subject, consents: list[str]) -> list[dict[str, Any]]:
    """Find the log's entries about a person, with their personal parts where these can still be opened."""
    ids = {subject.id, *consents}
    ids |= set(session.scalars(select(Voice.id).where(Voice.consent_id.in_(consents))))
    ids |= set(session.scalars(select(Job.id).where(Job.subject_id == subject.id)))
    found = []
    leaves = select(AuditLeaf.index, AuditLeaf.data).where(AuditLeaf.tenant_id == subject.tenant_id)
    for index, data in session.execute(leaves.order_by(AuditLeaf.index)):
        entry = json.loads(data)
        if ids.isdisjoint(str(ref) for ref in entry["refs"].values()):
            continue
        if entry["personal"] is not None:
            entry["personal_part"] = _personal(session, log, index)
        found.append(entry)
    return found


def _personal(session: Session, log: Log, index: int) -> Any:  # noqa: ANN401 - whatever the entry's writer put there
    try:
        return json.loads(log.personal(session, index))
    except Erased:
        return None


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

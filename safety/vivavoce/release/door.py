"""The door. `prepare` marks, `deposit` stores, `commit` makes it true, `open_output` hands it out.

marked = prepare(wave, rate, format, new_id("out"), marker=..., keyring=..., credential=..., labels=...)
with database.read() as session:
    deposited = deposit(session, store, keyring, lease, marked)
with database.write() as session:
    output = commit(session, log, keyring, deposited, now)
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from typing import final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentRefused, GrantRefused
from vivavoce.consent.profiles import profile_of
from vivavoce.consent.service import Authorization, require_in_force
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.errors import Erased, ObjectMissing, SealBroken
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import Lease, held
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.streams import OutputStream
from vivavoce.ledger.tables import Job, JobStatus, Output, Subject
from vivavoce.policy.admission import authorize_job
from vivavoce.provenance import EMBEDDED
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.marking import Labels, Ladder, Marked, mark_identity, prepare
from vivavoce.release.outcome import finish
from vivavoce.release.registered import owner
from vivavoce.release.sealed import TOKEN, OnlyHere

__all__ = [
    "Deposited",
    "Labels",
    "Ladder",
    "Marked",
    "ReleaseRefused",
    "Released",
    "Withheld",
    "commit",
    "deposit",
    "manifest_beside",
    "mark_identity",
    "open_output",
    "prepare",
]

_PASSING = ("consent_suspended", "consent_not_yet_valid")
"""Refusals that time or a review may lift; all others withhold an output for good."""


@final
@dataclass(frozen=True)
class Deposited(OnlyHere):
    """A marked file that lies sealed in the store. Nobody can be served with it before `commit`."""

    marked: Marked
    lease: Lease
    object_key: str
    made_by: InitVar[object]


@final
@dataclass(frozen=True)
class Released(OnlyHere):
    """Bytes that may be served, once the transaction that made them is committed. Made by `open_output` alone."""

    data: bytes = field(repr=False)
    media_type: str
    format: str
    output_id: str
    sha256: str
    filename: str
    made_by: InitVar[object]


@dataclass(frozen=True)
class Withheld:
    """An output that is not handed out; the log says why, once the transaction is committed."""

    output_id: str
    code: str
    detail: str


def deposit(session: Session, store: ObjectStore, keyring: KeyRing, lease: Lease, marked: Marked) -> Deposited:
    """Store a marked file, sealed under the subject's key, before the transaction that makes it an output.

    A manifest that the file cannot carry is sealed in behind it: one object, that comes and goes as a whole.

    Raises:
        Erased: The subject has left.
        ObjectStoreUnavailable: It could not be stored.
    """
    job = session.get_one(Job, lease.job_id)
    key = f"outputs/{lease.job_id}/{lease.attempt}"
    subject = session.get_one(Subject, job.subject_id)
    store.put(key, seal(keyring, subject, marked.data + (marked.manifest or b""), _bound_to(key, marked.output_id)))
    return Deposited(marked, lease, key, made_by=TOKEN)


def commit(session: Session, log: Log, keyring: KeyRing, deposited: Deposited, now: datetime) -> Output | None:
    """Make a deposited file an output: consent once more, output row, outcome leaf and job status together.

    A withdrawal of the consent waits until the transaction has ended, or has come first and is seen here.

    Returns:
        The output; None, and nothing is changed, if the lease was lost: another attempt has taken over.

    Raises:
        ReleaseRefused: Grant or consent no longer cover the job, or mark_identity_taken. Roll back, and end the job as
            refused, or try again with another output id.
        LogUnavailable: The log cannot be written. Nothing is released.
    """
    job = held(session, deposited.lease)
    if job is None:
        return None
    try:
        found = authorize_job(session, keyring, job, now, at_release=True)
    except (ConsentRefused, GrantRefused) as error:
        raise ReleaseRefused(error.code, error.detail) from error
    marked, output = deposited.marked, _output(deposited, job, found, now)
    if marked.labels.disclosure is None and profile_of(session, job.tenant_id).disclosure:
        raise ReleaseRefused("disclosure_missing", "the tenant's compliance profile asks for a spoken disclosure")
    named = owner(session, marked.identity)
    if named is not None and named.output != marked.output_id:
        raise ReleaseRefused("mark_identity_taken", "the mark would name another output as well")
    measured: dict[str, Json] = {
        "mark_identity_read": marked.identity_read,
        "mark_si_snr_db": round(marked.si_snr_db, 2),
        "disclosure": marked.labels.disclosure,
    }
    try:
        ended = finish(
            session, log, deposited.lease, job.id, JobStatus.SUCCEEDED, output=output, measured=measured, now=now
        )
    except IntegrityError as error:
        if "mark_identity" not in str(error.orig):
            raise
        raise ReleaseRefused("mark_identity_taken", "the mark would name another output as well") from error
    return output if ended else None


def open_output(
    session: Session,
    store: ObjectStore,
    keyring: KeyRing,
    log: Log,
    output_id: str,
    tenant_id: str,
    now: datetime,
    *,
    actor: str,
) -> Released | Withheld:
    """Hand out an output in a write transaction, or log why not. Serve the bytes after the commit, never before.

    Args:
        actor: Who downloads, such as the id of an API key.

    Returns:
        The bytes; or `Withheld`, returned and not raised, so that the reason is committed with its leaf.

    Raises:
        ReleaseRefused: `unknown_output`: there is none of this tenant.
        LogUnavailable: The log cannot be written. Nothing is handed out.
    """
    output = _lock_output(session, output_id)
    if output is None or output.tenant_id != tenant_id:
        raise ReleaseRefused("unknown_output", "there is no such output")
    try:
        data = _permitted(session, store, keyring, output, now)
    except ReleaseRefused as refusal:
        return _withhold(session, log, output, refusal, actor, now)
    log.append(session, _entry(Tag.OUTPUT_DELIVER, output, actor, {"sha256": output.sha256}))
    return Released(
        data=data,
        media_type=output.media_type,
        format=output.format,
        output_id=output.id,
        sha256=output.sha256,
        filename=f"{output.id}.{output.format}",
        made_by=TOKEN,
    )


def manifest_beside(session: Session, store: ObjectStore, keyring: KeyRing, output: Output) -> bytes | None:
    """Read the C2PA manifest of an output whose file cannot carry it (OGG, ADTS, raw PCM), or left while it was made.

    Returns:
        The manifest store (`application/c2pa`); None where the file carries it itself, or nothing is left of it since
        the speaker was erased.

    Raises:
        ObjectStoreUnavailable: The store does not answer.
    """
    if output.media_type in EMBEDDED and session.get(OutputStream, output.id) is None:
        return None
    try:
        return _unsealed(session, store, keyring, output)[output.size_bytes :] or None
    except (Erased, SealBroken, ObjectMissing):
        return None


def _unsealed(session: Session, store: ObjectStore, keyring: KeyRing, output: Output) -> bytes:
    """The file, and behind it the manifest that it cannot carry."""
    subject = session.get_one(Subject, output.subject_id)
    return unseal(keyring, subject, store.get(output.object_key), _bound_to(output.object_key, output.id))


def _permitted(session: Session, store: ObjectStore, keyring: KeyRing, output: Output, now: datetime) -> bytes:
    """Read an output's bytes if consent still stands and they are the ones that were released."""
    if output.withheld_at is not None:
        raise ReleaseRefused(output.withheld_reason or "withheld", "the output is withheld")
    try:
        require_in_force(session, output.consent_id, now, lock=True)
        data = _unsealed(session, store, keyring, output)[: output.size_bytes]
    except ConsentRefused as error:
        raise ReleaseRefused(error.code, error.detail) from error
    except Erased as error:
        raise ReleaseRefused("consent_erased", "the speaker has been erased") from error
    except SealBroken as error:
        raise ReleaseRefused("output_altered", "the stored output is not the one that was released") from error
    except ObjectMissing as error:
        raise ReleaseRefused("output_missing", "the stored output is gone") from error
    if not hmac.compare_digest(hashlib.sha256(data).hexdigest(), output.sha256):
        raise ReleaseRefused("output_altered", "the stored output is not the one that was released")
    return data


def _withhold(
    session: Session, log: Log, output: Output, refusal: ReleaseRefused, actor: str, now: datetime
) -> Withheld:
    log.append(session, _entry(Tag.OUTPUT_WITHHOLD, output, actor, {"code": refusal.code}))
    if output.withheld_at is None and refusal.code not in _PASSING:
        output.withheld_at = now
        output.withheld_reason = refusal.code
        session.flush()
    return Withheld(output.id, refusal.code, refusal.detail)


def _output(deposited: Deposited, job: Job, found: Authorization, now: datetime) -> Output:
    marked = deposited.marked
    return Output(
        id=marked.output_id,
        job_id=job.id,
        tenant_id=job.tenant_id,
        voice_id=found.voice_id,
        consent_id=found.consent_id,
        subject_id=found.subject_id,
        format=marked.format,
        media_type=marked.media_type,
        sample_rate=marked.sample_rate,
        seconds=marked.seconds,
        mark_identity=marked.identity,
        mark_score=marked.score,
        mark_strength=marked.strength,
        model_id=marked.labels.model_id,
        object_key=deposited.object_key,
        sha256=marked.sha256,
        size_bytes=len(marked.data),
        created_at=now,
    )


def _lock_output(session: Session, output_id: str) -> Output | None:
    if not is_id(output_id):
        return None
    locked = select(Output).where(Output.id == output_id).with_for_update(key_share=True)
    return session.scalars(locked.execution_options(populate_existing=True)).one_or_none()


def _entry(tag: Tag, output: Output, actor: str, facts: dict[str, str]) -> Entry:
    refs = {"output": output.id, "job": output.job_id, "consent": output.consent_id, "subject": output.subject_id}
    return Entry(tag, output.tenant_id, actor, refs=refs, facts=facts)


def _bound_to(key: str, output_id: str) -> bytes:
    return f"{key}:{output_id}".encode()

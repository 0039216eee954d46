"""The door for a sound that leaves while it is being made. `put` lays a chunk down, `take` hands it out.

A worker, for each chunk in order; the first one opens the stream:

    with database.write() as session:
        put(session, log, keyring, lease, chunk, marker, now)

and at the end the last chunk in the transaction of `door.commit`, which makes the whole an output. Who asked for the
sound, meanwhile:

    with database.write() as session:
        taken = take(session, log, keyring, job_id, tenant_id, after, now, actor=...)

Before a stream's first chunk is laid down, its mark's identity is in the registry and an entry in the log; before one
is handed out, the delivery is. Lease and consent are asked again for each chunk, both when it is laid down and when it
is handed out, in the transaction that does so: once a withdrawal is committed, nothing more leaves.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from datetime import datetime
from typing import final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentRefused, GrantRefused
from vivavoce.consent.profiles import profile_of
from vivavoce.consent.service import Authorization, require_in_force
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.errors import Erased, SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import Lease, held
from vivavoce.ledger.streams import OutputChunk, OutputStream
from vivavoce.ledger.tables import Job, JobStatus, Output, Subject
from vivavoce.policy.admission import authorize_job
from vivavoce.release.chunks import ChunkMarker, MarkedChunk
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.registered import owner
from vivavoce.release.sealed import TOKEN, OnlyHere
from vivavoce.sound import MEDIA_TYPES

MOST_AT_ONCE = 16
"""Chunks that are handed out in one transaction."""


@final
@dataclass(frozen=True)
class ReleasedChunk(OnlyHere):
    """Bytes that may be served, once the transaction that made them is committed. Made by `take` alone."""

    data: bytes = field(repr=False)
    number: int
    output_id: str
    media_type: str
    made_by: InitVar[object]


def put(
    session: Session, log: Log, keyring: KeyRing, lease: Lease, chunk: MarkedChunk, made: ChunkMarker, now: datetime
) -> bool:
    """Lay a chunk down to be handed out; the first one opens the stream: registry and log come before it.

    Returns:
        False, and nothing is changed, if the lease was lost: the job was ended, or another attempt has taken over.

    Raises:
        ReleaseRefused: Grant or consent no longer cover the job, disclosure_missing, or mark_identity_taken.
        Erased: The subject has left.
        LogUnavailable: The log cannot be written. Nothing leaves.
    """
    job = held(session, lease)
    if job is None:
        return False
    try:
        found = authorize_job(session, keyring, job, now, at_release=True)
    except (ConsentRefused, GrantRefused) as error:
        raise ReleaseRefused(error.code, error.detail) from error
    if chunk.number == 0:
        _open(session, log, lease, job, found, made, now)
    subject = session.get_one(Subject, job.subject_id)
    place = _bound_to(chunk.output_id, chunk.number)
    session.add(
        OutputChunk(
            stream_id=chunk.output_id,
            number=chunk.number,
            sealed=seal(keyring, subject, chunk.data, place),
            size_bytes=len(chunk.data),
            seconds=chunk.seconds,
        )
    )
    session.flush()
    return True


def stream_of(session: Session, job_id: str) -> OutputStream | None:
    """Find the stream that a job has opened."""
    return session.scalars(select(OutputStream).where(OutputStream.job_id == job_id)).one_or_none()


def has_more(session: Session, stream: OutputStream, after: int) -> bool:
    """Whether a chunk with a number above `after` lies there."""
    chunk = select(OutputChunk.number).where(OutputChunk.stream_id == stream.id, OutputChunk.number > after)
    return session.scalars(chunk.limit(1)).first() is not None


def take(
    session: Session, log: Log, keyring: KeyRing, job_id: str, tenant_id: str, after: int, now: datetime, *, actor: str
) -> list[ReleasedChunk]:
    """Hand out the next chunks of a job's stream in a write transaction. Serve them after the commit, never before.

    Args:
        after: Number of the last chunk that the caller has; -1 for none, and the delivery is logged.
        actor: Who listens, such as the id of an API key.

    Raises:
        ReleaseRefused: `unknown_output`; the consent is no longer in force, or the job was ended: the code says why.
        LogUnavailable: The log cannot be written. Nothing is handed out.
    """
    # The job's row first, as whoever ends it does: an end that is being written counts what was taken before it.
    locked = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    job, stream = session.scalars(locked).one_or_none(), stream_of(session, job_id)
    if job is None or stream is None or stream.tenant_id != tenant_id:
        raise ReleaseRefused("unknown_output", "there is no such stream")
    if JobStatus(job.status).final and job.status != JobStatus.SUCCEEDED:
        raise ReleaseRefused(job.error_code or job.status, job.error_detail or "the stream has ended")
    whole = session.get(Output, stream.id, populate_existing=True)
    if whole is not None and whole.withheld_at is not None:
        raise ReleaseRefused(whole.withheld_reason or "withheld", "the output is withheld")
    try:
        require_in_force(session, stream.consent_id, now, lock=True)
        subject = session.get_one(Subject, stream.subject_id, populate_existing=True)
        wanted = select(OutputChunk).where(OutputChunk.stream_id == stream.id, OutputChunk.number > after)
        chunks = session.scalars(wanted.order_by(OutputChunk.number).limit(MOST_AT_ONCE)).all()
        opened = [_unsealed(keyring, subject, stream, chunk) for chunk in chunks]
    except ConsentRefused as error:
        raise ReleaseRefused(error.code, error.detail) from error
    except Erased as error:
        raise ReleaseRefused("consent_erased", "the speaker has been erased") from error
    except SealBroken as error:
        raise ReleaseRefused("output_altered", "the stored sound is not the one that was released") from error
    if opened and after < 0:
        log.append(session, Entry(Tag.OUTPUT_DELIVER, tenant_id, actor, _refs(stream), {"streamed": True}))
    for chunk in chunks:
        chunk.taken_at = chunk.taken_at or now
    session.flush()
    return opened


def left_so_far(session: Session, job_id: str) -> dict[str, Json]:
    """Say for the log how much of a job's stream has left the house; nothing of a job that was not streamed."""
    stream = stream_of(session, job_id)
    if stream is None:
        return {}
    counted = select(func.count(), func.sum(OutputChunk.seconds), func.sum(OutputChunk.size_bytes))
    row = session.execute(counted.where(OutputChunk.stream_id == stream.id, OutputChunk.taken_at.is_not(None))).one()
    chunks, seconds, size = row
    return {
        "stream": stream.id,
        "left_chunks": chunks,
        "left_seconds": round(seconds or 0.0, 3),
        "left_bytes": size or 0,
    }


def _open(
    session: Session, log: Log, lease: Lease, job: Job, found: Authorization, made: ChunkMarker, now: datetime
) -> None:
    """Enter a stream into registry and log."""
    if made.labels.disclosure is None and profile_of(session, job.tenant_id).disclosure:
        raise ReleaseRefused("disclosure_missing", "the tenant's compliance profile asks for a spoken disclosure")
    if owner(session, made.identity) is not None:
        raise ReleaseRefused("mark_identity_taken", "the mark would name another output as well")
    stream = OutputStream(
        id=made.output_id,
        job_id=job.id,
        tenant_id=job.tenant_id,
        voice_id=found.voice_id,
        consent_id=found.consent_id,
        subject_id=found.subject_id,
        format=made.format,
        media_type=MEDIA_TYPES[made.format],
        mark_identity=made.identity,
        opened_at=now,
        leaf_index=0,
    )
    facts: dict[str, Json] = {
        "format": stream.format,
        "mark_identity": stream.mark_identity,
        "model": made.labels.model_id,
        "assurance": made.labels.assurance,
        "disclosure": made.labels.disclosure,
        "attempt": lease.attempt,
    }
    refs = _refs(stream) | {"voice": stream.voice_id, "intent": job.intent_leaf}
    entry = Entry(Tag.STREAM_OPEN, job.tenant_id, f"worker:{lease.owner}", refs, facts)
    stream.leaf_index = log.append(session, entry)
    session.add(stream)
    session.flush()


def _unsealed(keyring: KeyRing, subject: Subject, stream: OutputStream, chunk: OutputChunk) -> ReleasedChunk:
    data = unseal(keyring, subject, chunk.sealed, _bound_to(stream.id, chunk.number))
    return ReleasedChunk(data, chunk.number, stream.id, stream.media_type, made_by=TOKEN)


def _refs(stream: OutputStream) -> dict[str, str | int]:
    return {
        "output": stream.id,
        "job": stream.job_id,
        "consent": stream.consent_id,
        "subject": stream.subject_id,
    }


def _bound_to(output_id: str, number: int) -> bytes:
    return f"output_chunk:{output_id}:{number}".encode()

"""Requests that come together: each is authorised, logged and made a job, or refused, in a transaction of its own.

Who is killed in the middle leaves the rest undone; the same Idempotency-Key and body go on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller, require_scope
from vivavoce.api.problems import Problem
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Services, now
from vivavoce.consent.errors import ConsentRefused
from vivavoce.ledger.batches import Batch, BatchItem
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Output
from vivavoce.policy.admission import Submission, admit, refuse, require_plain_key
from vivavoce.policy.errors import PolicyRefused
from vivavoce.sound import SoundError, decode, require_speech
from vivavoce.workers.tasknames import ring

MIN_INPUT_SECONDS = 0.5

_SCOPES = {JobKind.SPEECH: Scope.SPEECH, JobKind.CONVERSION: Scope.CONVERSION}

Asked = tuple[str | None, Submission | Problem]
"""The caller's name for a request, and the request, or what is wrong with it."""


def open_batch(services: Services, caller: Caller, body: bytes, size: int, idempotency_key: str | None) -> Batch:
    """Enter a batch, or find the one that this key was used for.

    Raises:
        PolicyRefused: idempotency_key_malformed, idempotency_key_reused.
    """
    written = hashlib.sha256(body).hexdigest()
    if idempotency_key is not None:
        require_plain_key(idempotency_key)
    made = Batch(
        id=new_id("batch"),
        tenant_id=caller.tenant_id,
        size=size,
        request_sha256=written,
        idempotency_key=idempotency_key,
        created_at=now(),
    )
    try:
        with services.database.write() as session:
            found = _same_key(session, caller, idempotency_key)
            if found is None:
                session.add(made)
    except IntegrityError:  # a twin with the same key was first
        with services.database.read() as session:
            found = _same_key(session, caller, idempotency_key)
    if found is not None and found.request_sha256 != written:
        raise PolicyRefused("idempotency_key_reused", "this key was used for another batch")
    return found or made


def fill(services: Services, caller: Caller, batch: Batch, asked: Iterable[Asked]) -> None:
    """Let in or refuse each request that has not been yet; a refusal stops none of the others.

    Raises:
        LogUnavailable: From here on nothing was done; ask again with the same key.
    """
    with services.database.read() as session:
        done = set(session.scalars(select(BatchItem.place).where(BatchItem.batch_id == batch.id)))
    for place, (custom_id, submission) in enumerate(asked):
        if place not in done:
            _enter(services, caller, BatchItem(batch_id=batch.id, place=place, custom_id=custom_id), submission)


def read_batch(
    services: Services, caller: Caller, batch_id: str
) -> tuple[Batch, list[tuple[BatchItem, Job | None, str | None]]]:
    """Read a batch of the caller's tenant with its items, their jobs and outputs; raises `Problem` (404)."""
    with services.database.read() as session:
        batch = session.get(Batch, batch_id) if is_id(batch_id) else None
        if batch is None or batch.tenant_id != caller.tenant_id:
            raise Problem(404, "unknown_batch", "There is no such batch.")
        joined = select(BatchItem, Job, Output.id).outerjoin(Job, Job.id == BatchItem.job_id)
        joined = joined.outerjoin(Output, Output.job_id == BatchItem.job_id).where(BatchItem.batch_id == batch_id)
        return batch, [(item, job, output) for item, job, output in session.execute(joined.order_by(BatchItem.place))]


def _enter(services: Services, caller: Caller, item: BatchItem, submission: Submission | Problem) -> None:
    if isinstance(submission, Problem):
        _keep(services, item, submission.code, submission.detail)
        return
    try:
        require_scope(services, caller, _SCOPES[submission.kind])
        if submission.input is not None:
            require_speech(
                decode(submission.input, max_seconds=services.settings.max_upload_seconds), MIN_INPUT_SECONDS
            )
        with services.database.write() as session:
            job = admit(session, services.log, services.keyring, services.store, submission, now())
            item.job_id = job.id
            session.add(item)
    except Problem as problem:
        _keep(services, item, problem.code, problem.detail)
    except (ConsentRefused, PolicyRefused, SoundError) as refusal:
        _keep(services, item, refusal.code, refusal.detail, refused=submission)
    except IntegrityError:
        return  # a twin with the same key was first, and this job is rolled back with its item
    else:
        if job.status == JobStatus.QUEUED:
            ring(services.bell, job.id)


def _keep(services: Services, item: BatchItem, code: str, detail: str, *, refused: Submission | None = None) -> None:
    """Write down that a request of the batch came to nothing, and, where safety said so, log it."""
    item.error_code, item.error_detail = code, detail
    try:
        with services.database.write() as session:
            if refused is not None:
                refuse(session, services.log, services.keyring, refused, code, now())
            session.add(item)
    except IntegrityError:
        return  # as above


def _same_key(session: Session, caller: Caller, key: str | None) -> Batch | None:
    if key is None:
        return None
    same = select(Batch).where(Batch.tenant_id == caller.tenant_id, Batch.idempotency_key == key)
    return session.scalars(same).one_or_none()

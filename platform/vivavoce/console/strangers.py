"""Detection for somebody without a key: how often, in whose name, and how nothing of it stays behind."""

from __future__ import annotations

import hashlib
import secrets

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vivavoce.api.counting import Counted
from vivavoce.api.flow import checked_sound, finished, submit
from vivavoce.api.problems import Problem, job_problem
from vivavoce.api.services import Services, now
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.ledger.tables import ApiKey, Job, JobKind, JobStatus, Tenant
from vivavoce.policy.requests import Submission
from vivavoce.provenance.report import issue_report
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.retention import forget_upload
from vivavoce.sound import MIN_MARKED_SECONDS, Sound

TENANT, KEY = f"ten_{'0' * 26}", f"key_{'0' * 26}"
"""In whose name strangers' detections stand in the ledger. The key is nobody's: no token belongs to it."""


class Patience:
    """How often one address may ask, counted in this process."""

    def __init__(self, per_minute: int) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None

    def require_open(self) -> None:
        """Refuse everybody where no detection is allowed without a key; raises `Problem` (404)."""
        if self._limit is None:
            raise Problem(404, "not_found", "Sounds are looked at for customers only here.")

    def spend(self, request: Request) -> None:
        """Count a request; raises `Problem` (429) where its address has asked too often."""
        self.require_open()
        if self._limit is not None:
            address = request.client.host if request.client else "unknown"
            request.state.counted = Counted(self._limiter, self._limit, address)
            request.state.counted.hit()


async def examine(services: Services, request: Request, data: bytes) -> tuple[Sound, str]:
    """Look for mark and manifest in a file, and sign what was found.

    Returns:
        The sound, and the signed report's text.

    Raises:
        SoundError: It cannot be taken.
        Problem: The job gave nothing, or not in time.
    """
    submission = await run_in_threadpool(_submission, services, data)
    most = services.settings.public_max_seconds
    sound = await run_in_threadpool(checked_sound, services, submission, data, MIN_MARKED_SECONDS, most)
    job = await run_in_threadpool(submit, services, submission)
    try:
        job = await finished(services, job.id)
        if job.status != JobStatus.SUCCEEDED:
            raise job_problem(request, job.status, job.error_code, job.error_detail)
        report = await run_in_threadpool(_report, services, job, data)
    finally:
        await run_in_threadpool(_forget, services, job.id)
    return sound, report


def _submission(services: Services, data: bytes) -> Submission:
    _enter(services)
    return Submission(tenant_id=TENANT, api_key_id=KEY, kind=JobKind.DETECTION, request={}, input=data)


def _enter(services: Services) -> None:
    """Enter the strangers' own customer and key, once for an installation."""
    with services.database.read() as session:
        if session.get(Tenant, TENANT) is not None:
            return
    try:
        with services.database.write() as session:
            _add(services, session)
    except IntegrityError:
        return  # another process was first


def _add(services: Services, session: Session) -> None:
    moment = now()
    session.add(Tenant(id=TENANT, name="public detection", created_at=moment))
    session.flush()
    digest = hashlib.sha256(secrets.token_bytes()).hexdigest()  # of no token, so that none fits
    session.add(
        ApiKey(
            id=KEY,
            tenant_id=TENANT,
            name="public detection",
            prefix="",
            digest=digest,
            scopes=[],
            created_at=moment,
            revoked_at=moment,
        )
    )
    session.flush()
    services.log.append(session, Entry(Tag.TENANT_CREATE, TENANT, "operator", {"tenant": TENANT}, {}))


def _report(services: Services, job: Job, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    with services.database.write() as session:
        return issue_report(session, services.log, services.keyring, job, digest, len(data), now())


def _forget(services: Services, job_id: str) -> None:
    """Delete the file, the request and the finding; the job's row and the log keep that there was one."""
    moment = now()
    with services.database.write() as session:
        forget_upload(session, session.get_one(Job, job_id), moment)
    delete_doomed(services.database, services.store, services.log, "public")

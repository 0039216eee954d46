"""One job from claim to end: claim, check, make or detect, release, exactly one outcome.

What is guaranteed, stage by stage:
- *claimed*: nobody else works on the job while its lease is renewed.
- *made*: a sealed sound may lie in the store; nobody can be served with it, and the sweep removes it if it stays so.
- *finished*: one transaction wrote status, outcome leaf and, for a sound, the output. Who comes second writes nothing.
A worker that is killed leaves the job to the reaper of another; a worker whose lease is lost delivers nothing.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import structlog

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease, claim, give_back
from vivavoce.ledger.tables import Job, JobKind, JobStatus
from vivavoce.model.voice_model import Generated
from vivavoce.policy.admission import authorize_job, open_request
from vivavoce.provenance import read_provenance
from vivavoce.release import door
from vivavoce.release.outcome import finish
from vivavoce.workers.detection import c2pa, detect, result
from vivavoce.workers.endings import EXHAUSTED, Again, Ending, end_job, ending
from vivavoce.workers.errors import Stopped
from vivavoce.workers.host import Host
from vivavoce.workers.keeper import Hold
from vivavoce.workers.logs import log_unforeseen
from vivavoce.workers.making import engine_request, load_references
from vivavoce.workers.natural import consent_recording
from vivavoce.workers.sweep import sweep_job
from vivavoce.workers.tasknames import ring

if TYPE_CHECKING:
    from vivavoce.sound import Format

_log = structlog.get_logger("vivavoce.workers")


class JobRunner:
    """Runs jobs by their ids, any number at once on as many threads."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def run(self, job_id: str) -> None:
        """Run a job to its end, if it is to be had. Never raises: what can't be ended here is left to the reaper."""
        with structlog.contextvars.bound_contextvars(job_id=job_id):
            if self.host.stopping.is_set():
                self.host.unfinished.put(job_id)
                return
            try:
                lease = self._claim(job_id)
                if lease is not None:
                    self._work(lease)
            except Exception as error:
                log_unforeseen("job_left_to_reaper", error)

    def _claim(self, job_id: str) -> Lease | None:
        with self.host.database.write() as session:
            lease = claim(session, job_id, self.host.owner, _now(), self.host.settings.lease_ttl)
        if lease is None:
            _log.info("job_not_to_be_had")
        return lease

    def _work(self, lease: Lease) -> None:
        with self.host.keeper.hold(lease) as hold:
            _log.info("job_begun", attempt=lease.attempt)
            try:
                if lease.attempt > self.host.settings.max_attempts:
                    self._finish(lease, EXHAUSTED)
                else:
                    self._attempt(hold)
            except Stopped:
                self._break_off(hold)
            except Exception as error:
                self._fail(lease, error)
            else:
                if lease.attempt == 1:
                    return  # nothing can have been left behind
        sweep_job(self.host.database, self.host.store, lease.job_id)

    def _attempt(self, hold: Hold) -> None:
        with self.host.database.read() as session:
            job = session.get_one(Job, hold.lease.job_id)
        if job.kind == JobKind.DETECTION:
            self._detect(job, hold)
        else:
            self._make(job, hold)

    def _make(self, job: Job, hold: Hold) -> None:
        host, now = self.host, _now()
        with host.database.read() as session:
            permitted = authorize_job(session, host.keyring, job, now)
            request, sound = open_request(job, session, host.store, host.keyring)
            references = load_references(session, job, host.store, host.keyring)
            behind = [consent_recording(session, job, host.store, host.keyring)]
        for samples, rate in [*behind, *((one.wave.numpy(), one.sample_rate) for one in references)]:
            host.natural.require(samples, rate)
        asked = engine_request(job, request, sound, references)
        made = self._await(host.engine.submit(asked, cancelled=lambda: self._must_stop(hold)), hold)
        source = None if sound is None else hashlib.sha256(sound).hexdigest()
        self._deliver(job, made, door.Labels(host.model_id, permitted.assurance, now, source), hold)

    def _deliver(self, job: Job, made: Generated, labels: door.Labels, hold: Hold) -> None:
        """Put a made sound through the release door; the last moment at which it may still be refused."""
        host = self.host
        marked = door.prepare(
            made.wave.numpy(),
            made.sample_rate,
            cast("Format", job.format),
            new_id("out"),
            marker=host.marker,
            keyring=host.keyring,
            credential=host.credential,
            labels=labels,
        )
        self._go_on(hold)
        with host.database.read() as session:
            deposited = door.deposit(session, host.store, host.keyring, hold.lease, marked)
        with host.database.write() as session:
            output = door.commit(session, host.log, host.keyring, deposited, _now())
        if output is None:
            raise Stopped
        _log.info("job_succeeded", output_id=output.id, seconds=round(made.seconds, 2), finished=made.finished)

    def _detect(self, job: Job, hold: Hold) -> None:
        host = self.host
        with host.database.read() as session:
            _, sound = open_request(job, session, host.store, host.keyring)
        found, resolution = detect(host.marker, sound or b"", host.database)
        claimed = read_provenance(sound or b"", host.credential.roots)
        self._go_on(hold)
        facts = result(host.marker, found, resolution) | {"c2pa": c2pa(host.keyring, claimed, resolution)}
        verdict, done = {"verdict": str(found.verdict), "c2pa": str(claimed.state)}, JobStatus.SUCCEEDED
        with host.database.write() as session:
            ended = finish(session, host.log, hold.lease, job.id, done, result=facts, measured=verdict, now=_now())
        if not ended:
            raise Stopped
        _log.info("job_succeeded", verdict=str(found.verdict), seconds=round(found.seconds, 2))

    def _await(self, future: Future[Generated], hold: Hold) -> Generated:
        try:
            made = future.result()
        except Exception:
            self._go_on(hold)  # the engine was told to stop: that is no fault of the model
            raise
        self._go_on(hold)
        return made

    def _must_stop(self, hold: Hold) -> bool:
        return hold.lost.is_set() or self.host.stopping.is_set()

    def _go_on(self, hold: Hold) -> None:
        if self._must_stop(hold):
            raise Stopped

    def _break_off(self, hold: Hold) -> None:
        with self.host.database.write() as session:
            given = give_back(session, hold.lease)
        _log.warning("job_given_back" if given else "job_lost", attempt=hold.lease.attempt)
        if given:
            self.host.unfinished.put(hold.lease.job_id)

    def _fail(self, lease: Lease, error: Exception) -> None:
        end = ending(error)
        if end.code == "internal_error":
            log_unforeseen("job_attempt_failed", error)
        if end.again is Again.NEVER or lease.attempt >= self.host.settings.max_attempts:
            self._finish(lease, end)
            return
        with self.host.database.write() as session:
            given = give_back(session, lease)
        _log.warning("job_given_back" if given else "job_lost", attempt=lease.attempt, code=end.code, detail=end.detail)
        if given and end.again is Again.AT_ONCE:
            ring(self.host.celery, lease.job_id)

    def _finish(self, lease: Lease, end: Ending) -> None:
        with self.host.database.write() as session:
            finished = end_job(session, self.host.log, lease, lease.job_id, end, _now())
        _log.warning(
            f"job_{end.status}" if finished else "job_lost", attempt=lease.attempt, code=end.code, detail=end.detail
        )


def _now() -> datetime:
    return datetime.now(UTC)

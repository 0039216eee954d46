"""One job from claim to end: claim, check, make or detect, release, exactly one outcome.

What is guaranteed, stage by stage:
- *claimed*: nobody else works on the job while its lease is renewed.
- *made*: a sealed sound may lie in the store; nobody can be served with it, and the sweep removes it if it stays so.
- *finished*: one transaction wrote status, outcome leaf and, for a sound, the output. Who comes second writes nothing.
A worker that is killed leaves the job to the reaper of another; a worker whose lease is lost delivers nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import structlog

from vivavoce.consent.profiles import profile_of
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease, advance, claim, give_back
from vivavoce.ledger.tables import Job, JobKind, JobStage, JobStatus
from vivavoce.ledger.tracing import SpanKind, job_attributes, span, trace_id
from vivavoce.model.voice_model import Generated, Request
from vivavoce.policy import verification
from vivavoce.policy.admission import authorize_job, open_request
from vivavoce.provenance import read_provenance
from vivavoce.release import door
from vivavoce.release.disclosure import disclosure_language
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.outcome import finish
from vivavoce.release.stream import stream_of
from vivavoce.workers.detection import c2pa, detect, result
from vivavoce.workers.endings import EXHAUSTED, Again, Ending, end_job, ending
from vivavoce.workers.errors import Stopped
from vivavoce.workers.host import Host
from vivavoce.workers.keeper import Hold
from vivavoce.workers.logs import log_unforeseen
from vivavoce.workers.making import at_speed, engine_requests, joined, load_references, speed_of
from vivavoce.workers.natural import consent_recording
from vivavoce.workers.own_voice import require_own_voice
from vivavoce.workers.streaming import INTERRUPTED, Streaming
from vivavoce.workers.sweep import sweep_job
from vivavoce.workers.tasknames import ring
from vivavoce.workers.verifying import verify

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
        told = job_attributes(job) | {"vivavoce.attempt": hold.lease.attempt}
        with (
            span("job.run", told, kind=SpanKind.CONSUMER, parent=job.traceparent),
            structlog.contextvars.bound_contextvars(leaf=job.intent_leaf, **trace_id()),
        ):
            if job.kind == JobKind.DETECTION:
                self._detect(job, hold)
            elif job.kind == JobKind.VERIFICATION:
                self._verify(job, hold)
            else:
                self._make(job, hold)

    def _make(self, job: Job, hold: Hold) -> None:
        host, now = self.host, _now()
        with host.database.read() as session:
            if stream_of(session, job.id) is not None:
                raise ReleaseRefused(*INTERRUPTED)
            permitted = authorize_job(session, host.keyring, job, now)
            request, sound = open_request(job, session, host.store, host.keyring)
            references = load_references(session, job, host.store, host.keyring)
            behind = consent_recording(session, job, host.store, host.keyring)
            discloses = profile_of(session, job.tenant_id).disclosure
        clips = [(one.wave.numpy(), one.sample_rate) for one in references]
        for samples, rate in (behind, *clips):
            host.natural.require(samples, rate)
        require_own_voice(host, job, permitted.assurance, behind, clips, now)
        asked = engine_requests(job, request, sound, references)
        source = None if sound is None else hashlib.sha256(sound).hexdigest()
        said = disclosure_language(permitted.language) if discloses else None
        labels = door.Labels(host.model_id, permitted.assurance, now, source, said)
        self._advance(hold, JobStage.MAKING)
        if request.get("stream"):
            with span("model.generate and release", {"vivavoce.model": host.model_id}) as traced:
                output = Streaming(host, job, labels, hold).run(asked, speed_of(request))
                traced.set_attribute("vivavoce.output_id", output.id)
            _log.info("job_succeeded", output_id=output.id, seconds=round(output.seconds, 2), streamed=True)
            return
        with span("model.generate", {"vivavoce.model": host.model_id}):
            made = joined([self._generate(part, hold) for part in asked])
        with span("release") as traced:
            output_id = self._deliver(job, at_speed(made, request), labels, hold)
            traced.set_attribute("vivavoce.output_id", output_id)

    def _deliver(self, job: Job, made: Generated, labels: door.Labels, hold: Hold) -> str:
        """Put a made sound through the release door, where it may still be refused; returns the output's id."""
        host = self.host
        self._advance(hold, JobStage.MARKING)
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
        return output.id

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

    def _verify(self, job: Job, hold: Hold) -> None:
        host = self.host
        measured, judged = verify(host, job)
        self._go_on(hold)
        with host.database.write() as session:
            result = verification.settle(session, host.keyring, job.consent_id or "", measured, judged, _now())
            told = {"verdict": judged.verdict, "reasons": list(judged.reasons)}
            done = JobStatus.SUCCEEDED
            ended = finish(session, host.log, hold.lease, job.id, done, result=result, measured=told, now=_now())
            if not ended:
                raise Stopped  # and roll the judgement back
        _log.info("job_succeeded", verdict=judged.verdict)

    def _generate(self, part: Request, hold: Hold) -> Generated:
        """One part after another: a long text must not fill the batch."""
        future = self.host.engine.submit(part, cancelled=lambda: self._must_stop(hold))
        try:
            made = future.result()
        except Exception:
            self._go_on(hold)  # the engine was told to stop: that is no fault of the model
            raise
        self._go_on(hold)
        return made

    def _advance(self, hold: Hold, stage: JobStage) -> None:
        """Say how far the work has come; breaks it off if the job was cancelled or taken over meanwhile."""
        with self.host.database.write() as session:
            ours = advance(session, hold.lease, stage)
        if not ours:
            raise Stopped

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
        if self._is_final(end, lease):
            self._finish(lease, end)
            return
        with self.host.database.write() as session:
            given = give_back(session, lease)
        _log.warning("job_given_back" if given else "job_lost", attempt=lease.attempt, code=end.code, detail=end.detail)
        if given and end.again is Again.AT_ONCE:
            ring(self.host.celery, lease.job_id)

    def _is_final(self, end: Ending, lease: Lease) -> bool:
        """Whether nobody may try again. Nobody can say anew what has begun to leave."""
        if end.again is Again.NEVER or lease.attempt >= self.host.settings.max_attempts:
            return True
        with self.host.database.read() as session:
            return stream_of(session, lease.job_id) is not None

    def _finish(self, lease: Lease, end: Ending) -> None:
        with self.host.database.write() as session:
            finished = end_job(session, self.host.log, lease, lease.job_id, end, _now())
        _log.warning(
            f"job_{end.status}" if finished else "job_lost", attempt=lease.attempt, code=end.code, detail=end.detail
        )


def _now() -> datetime:
    return datetime.now(UTC)

"""Jobs that must not come to a sound: withdrawn, forged, stolen, broken. Each ends once, by name, leaving nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
import torch
from sqlalchemy import text
from tests.workers.house import LONG, SHORT, House, now, wait_for

from vivavoce.consent import grant
from vivavoce.ledger.envelope import destroy_subject_key
from vivavoce.ledger.lease import claim
from vivavoce.ledger.tables import Consent, Job, JobKind, JobStatus, ReferenceClip, Subject
from vivavoce.model.voice_model import Generated
from vivavoce.policy.admission import admit
from vivavoce.release import marking
from vivavoce.release.marking import LADDER
from vivavoce.release.outcome import cancel
from vivavoce.release.withdrawal import erase, withdraw
from vivavoce.sound import SPEECH_RATE, Samples
from vivavoce.watermark import Detection, Marker, Verdict
from vivavoce.workers import jobs
from vivavoce.workers.jobs import JobRunner
from vivavoce.workers.keeper import LeaseKeeper
from vivavoce.workers.reaper import Reaper


@contextmanager
def running(house: House, runner: JobRunner, job_id: str) -> Iterator[None]:
    """The job runs on a thread; the block begins once it does, and ends after the job's attempt."""
    thread = threading.Thread(target=runner.run, args=(job_id,))
    thread.start()
    try:
        wait_for(lambda: house.job(job_id).status == JobStatus.RUNNING, "the start")
        yield
    finally:
        thread.join()


def change(house: House, job_id: str, **columns: object) -> None:
    with house.database.write() as session:
        for name, value in columns.items():
            setattr(session.get_one(Job, job_id), name, value)


def test_withdrawn_while_queued(house: House, runner: JobRunner) -> None:
    consent_id, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    house.revoke(consent_id, now())
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_revoked")


def stop(house: House, job_id: str) -> bool:
    with house.database.write() as session:
        return cancel(session, house.log, job_id, actor=house.account.key_id, now=now())


def test_cancelled_while_running(house: House, runner: JobRunner) -> None:
    """It ends at once, and what the worker goes on making is neither released nor left behind."""
    job_id = house.queue(LONG)
    with running(house, runner, job_id):
        assert stop(house, job_id)
        assert house.job(job_id).status == JobStatus.CANCELLED
    house.check_one_end(job_id, JobStatus.CANCELLED, "cancelled")


@pytest.mark.parametrize("point", ["prepare", "deposit", "commit"])
def test_cancelled_at_the_door(house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """At each step of the release the tenant's word still counts; the sealed sound is swept."""
    step, job_id = getattr(jobs.door, point), house.queue(SHORT)

    def cancelled_first(*arguments: object, **named: object) -> object:
        assert stop(house, job_id)
        return step(*arguments, **named)

    if point == "commit":  # its transaction is open: what comes now on SQLite waits for it
        deposit = jobs.door.deposit
        monkeypatch.setattr(jobs.door, "deposit", lambda *given: (deposit(*given), stop(house, job_id))[0])
    else:
        monkeypatch.setattr(jobs.door, point, cancelled_first)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.CANCELLED, "cancelled")


def test_withdrawn_while_running(house: House, runner: JobRunner) -> None:
    consent_id, voice_id = house.another_voice()
    job_id = house.queue(LONG, voice_id)
    with running(house, runner, job_id):
        house.revoke(consent_id, now())
        assert house.job(job_id).status == JobStatus.RUNNING, "withdrawn too late for what is tested here"
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_revoked")


def test_a_withdrawal_breaks_off_what_is_being_made(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has ended once the withdrawal is committed, and the engine is told to stop at the next heartbeat."""
    consent_id, voice_id = house.another_voice()
    job_id = house.queue(LONG, voice_id)
    told: list[Callable[[], bool]] = []
    submit = runner.host.engine.submit

    def overheard(request: object, *, cancelled: Callable[[], bool]) -> Future[Generated]:
        told.append(cancelled)
        return submit(request, cancelled=cancelled)  # type: ignore[arg-type]

    monkeypatch.setattr(runner.host.engine, "submit", overheard)
    keeper = LeaseKeeper(house.database, timedelta(seconds=0.6))
    monkeypatch.setattr(runner.host, "keeper", keeper)
    with closing(keeper), running(house, runner, job_id):
        wait_for(lambda: bool(told), "the engine")
        with house.database.write() as session:
            withdraw(session, house.log, consent_id, "changed my mind", "subject:link_1", now())
        assert (house.job(job_id).status, house.job(job_id).error_code) == (JobStatus.REFUSED, "consent_revoked")
        wait_for(told[0], "the engine to be told")
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_revoked")


def test_the_speaker_is_erased_while_queued(house: House, runner: JobRunner) -> None:
    consent_id, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    with house.database.write() as session:
        consent = session.get_one(Consent, consent_id)
        destroy_subject_key(session.get_one(Subject, consent.subject_id), now())
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_erased")


def _bend_signature(house: House, job: Job) -> dict[str, object]:
    head, _, signature = (job.grant_token or "").rpartition(".")
    return {"grant_token": f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"}


def _widen_claims(house: House, job: Job) -> dict[str, object]:
    """A grant for more time, signed with nobody's key: the old signature under new claims."""
    granted = grant.read(job.grant_token or "", house.keyring)
    longer = grant.sign(dataclasses.replace(granted, expires_at=granted.expires_at + timedelta(days=1)), house.keyring)
    claims, old = longer.split("."), (job.grant_token or "").split(".")
    return {"grant_token": ".".join([claims[0], claims[1], old[2]])}


def _other_jobs_grant(house: House, job: Job) -> dict[str, object]:
    return {"grant_token": house.job(house.queue(SHORT)).grant_token}


def _other_voice(house: House, job: Job) -> dict[str, object]:
    return {"voice_id": house.another_voice()[1]}


def _other_request(house: House, job: Job) -> dict[str, object]:
    """A row whose request was swapped for another one that was truly admitted and sealed."""
    other = house.job(house.queue("Something that nobody asked of this job."))
    return {"request_key": other.request_key, "request_sha256": other.request_sha256}


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (_bend_signature, "grant_forged"),
        (_widen_claims, "grant_forged"),
        (lambda house, job: {"grant_token": None}, "grant_mismatch"),
        (_other_jobs_grant, "grant_mismatch"),
        (_other_voice, "grant_mismatch"),
        (lambda house, job: {"purpose": "advertising"}, "grant_mismatch"),
        (lambda house, job: {"kind": JobKind.CONVERSION}, "grant_mismatch"),
        (_other_request, "grant_mismatch"),
    ],
)
def test_a_forged_row_is_refused(
    house: House, runner: JobRunner, forge: Callable[[House, Job], dict[str, object]], code: str
) -> None:
    """Whoever can write job rows, but has no key, cannot make a worker speak."""
    job_id = house.queue(SHORT)
    change(house, job_id, **forge(house, house.job(job_id)))
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, code)


def test_a_grant_that_waited_too_long_is_refused(house: House, runner: JobRunner) -> None:
    with house.database.write() as session:
        earlier = now() - grant.TTL
        house_consent = session.get_one(Consent, house.consent_id)
        house_consent.valid_from = earlier - timedelta(minutes=1)
        submission = house.submission(house.voice_id)
        job_id = admit(session, house.log, house.keyring, house.store, submission, earlier).id
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "grant_expired")


def test_a_clip_that_was_exchanged_is_not_spoken_with(house: House, runner: JobRunner) -> None:
    """Another speaker's sealed clip under this voice's key cannot be opened."""
    _, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    with house.database.read() as session:
        clips = {clip.voice_id: clip.object_key for clip in session.query(ReferenceClip)}
    house.store.put(clips[voice_id], house.store.get(clips[house.voice_id]))
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.FAILED, "input_unreadable")


def test_a_sound_that_is_none_fails_by_its_name(house: House, runner: JobRunner) -> None:
    job_id = house.queue(kind=JobKind.CONVERSION, request={}, input=b"no sound at all")
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.FAILED, "not_audio")


def test_what_the_model_cannot_do_fails_after_all_attempts(house: House, runner: JobRunner) -> None:
    """A text of which nothing can be spoken: tried again at once, then failed, with one outcome for all attempts."""
    job_id = house.queue("…")
    for attempt in range(1, house.settings.max_attempts + 1):
        assert not JobStatus(house.job(job_id).status).final
        runner.run(job_id)
        assert house.job(job_id).attempt == attempt
    house.check_one_end(job_id, JobStatus.FAILED, "model_error")


def test_a_stolen_lease_delivers_nothing(house: House, runner: JobRunner) -> None:
    """A worker that was taken for dead comes to the end of its work, and is too late."""
    job_id = house.queue(LONG)
    with running(house, runner, job_id), house.database.write() as session:
        later = now() + 2 * house.settings.lease_ttl
        assert claim(session, job_id, "thief", later, house.settings.lease_ttl) is not None
    job = house.job(job_id)
    assert (job.status, job.attempt, job.lease_owner) == (JobStatus.RUNNING, 2, "thief")
    assert house.outcomes(job_id) == []
    assert house.output(job_id) is None
    assert house.store.list(f"outputs/{job_id}") == []


def test_the_reaper_finishes_what_a_withdrawal_or_an_erasure_left(house: House, runner: JobRunner) -> None:
    """Jobs beyond those that end with a withdrawal; objects that were to be deleted when the process was killed."""
    (consent_id, voice_id), (leaving, _) = house.another_voice(), house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    house.revoke(consent_id, now())
    with house.database.write() as session:
        erase(session, house.log, session.get_one(Consent, leaving).subject_id, "subject", now())
    assert house.count("doomed_object") == 2
    Reaper(runner.host).look(now())
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_revoked")
    assert house.count("doomed_object") == 0


def test_a_job_that_kills_its_workers_is_given_up(house: House, runner: JobRunner) -> None:
    """The reaper fails what was begun too often, and deletes what the last attempt had stored."""
    job_id = house.queue(SHORT)
    gone = now() - timedelta(minutes=5)
    change(
        house, job_id, status=JobStatus.RUNNING, attempt=house.settings.max_attempts, lease_owner="x",
        lease_expires_at=gone,
    )  # fmt: skip
    house.store.put(f"outputs/{job_id}/{house.settings.max_attempts}", b"sealed")
    Reaper(runner.host).look(now())
    house.check_one_end(job_id, JobStatus.FAILED, "attempts_exhausted")


def test_the_sweep_keeps_what_may_still_be_released(house: House, runner: JobRunner) -> None:
    """A sound of a running attempt stays; sounds of earlier attempts and of unknown jobs go."""
    job_id = house.queue(SHORT)
    change(
        house, job_id, status=JobStatus.RUNNING, attempt=2, lease_owner="x", lease_expires_at=now() + timedelta(hours=1)
    )
    keys = [f"outputs/{job_id}/1", f"outputs/{job_id}/2", "outputs/job_unknown/1"]
    for key in keys:
        house.store.put(key, b"sealed")
    Reaper(runner.host).look(now())
    assert [key for key in keys if key in house.store.list("outputs")] == [f"outputs/{job_id}/2"]


def test_without_a_log_nothing_is_delivered_until_it_is_back(house: House, runner: JobRunner) -> None:
    job_id = house.queue(SHORT)
    house.break_log()
    try:
        runner.run(job_id)
        assert house.job(job_id).status == JobStatus.QUEUED
        assert house.output(job_id) is None
        assert house.store.list(f"outputs/{job_id}") == []
    finally:
        with house.database.write() as session:
            session.execute(text("DROP TRIGGER broken"))
    runner.run(job_id)
    assert house.check_one_end(job_id, JobStatus.SUCCEEDED).attempt == 2


def test_a_stopping_worker_gives_its_job_back(house: House, runner: JobRunner) -> None:
    job_id = house.queue(LONG)
    try:
        with running(house, runner, job_id):
            runner.host.stopping.set()
    finally:
        runner.host.stopping.clear()
    job = house.job(job_id)
    assert (job.status, job.lease_owner, job.attempt) == (JobStatus.QUEUED, None, 1)
    assert house.outcomes(job_id) == []
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.SUCCEEDED)


class BlindAtFirst(Marker):
    """The real marker, whose detector sees nothing for its first looks."""

    blind_looks: int

    def detect(self, samples: Samples, sample_rate: int, *, search: bool = True) -> Detection:
        self.blind_looks -= 1
        found = super().detect(samples, sample_rate, search=search)
        if self.blind_looks < 0:
            return found
        return dataclasses.replace(found, verdict=Verdict.NOT_DETECTED, reading=None)


@pytest.mark.parametrize(("attempts", "status", "code"), [(1, "succeeded", None), (99, "refused", "mark_not_found")])
def test_a_sound_whose_mark_is_not_found_gets_another_mark(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch, attempts: int, status: str, code: str | None
) -> None:
    """Each attempt draws another output id, hence another mark; only when none is found the job is refused."""
    marker = BlindAtFirst.load(secret=house.keyring.mark_key)
    marker.blind_looks = attempts * len(LADDER.strengths)
    monkeypatch.setattr(runner.host, "marker", marker)
    job_id = house.queue(SHORT)
    for _ in range(runner.host.settings.max_attempts):
        runner.run(job_id)
    job = house.check_one_end(job_id, JobStatus(status), code)
    assert job.attempt == (2 if code is None else runner.host.settings.max_attempts)


@pytest.mark.parametrize(("taken", "status", "code"), [(1, "succeeded", None), (99, "refused", "mark_identity_taken")])
def test_a_mark_that_would_name_another_output_too_is_made_anew(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch, taken: int, status: str, code: str | None
) -> None:
    """Two output ids whose marks would say the same: the second gets another id, and no two outputs share a mark."""
    first = house.queue(SHORT)
    runner.run(first)
    same, derive, calls = house.output(first), marking.mark_identity, iter(range(1000))
    assert same is not None and same.mark_identity is not None
    monkeypatch.setattr(
        marking, "mark_identity", lambda *of: same.mark_identity if next(calls) < taken else derive(*of)
    )
    job_id = house.queue(SHORT)
    for _ in range(runner.host.settings.max_attempts):
        runner.run(job_id)
    job = house.check_one_end(job_id, JobStatus(status), code)
    assert job.attempt == (2 if code is None else runner.host.settings.max_attempts)
    second = house.output(job_id)
    assert second is None or second.mark_identity != same.mark_identity


@pytest.mark.parametrize(
    ("wave", "code"),
    [(torch.zeros(3 * SPEECH_RATE), "mark_silent"), (torch.full((SPEECH_RATE // 4,), 0.1), "mark_too_short")],
)
def test_a_sound_that_cannot_carry_a_mark_is_refused(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch, wave: torch.Tensor, code: str
) -> None:
    """The model gave silence, or a click: the job ends at once, and says why."""
    done: Future[Generated] = Future()
    done.set_result(Generated(wave, SPEECH_RATE, seconds=len(wave) / SPEECH_RATE, finished="stop"))
    monkeypatch.setattr(runner.host.engine, "submit", lambda *_, **__: done)
    job_id = house.queue(SHORT)
    runner.run(job_id)
    assert house.check_one_end(job_id, JobStatus.REFUSED, code).attempt == 1

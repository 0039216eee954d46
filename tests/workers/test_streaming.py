"""Sound that leaves while a worker makes it: before its end, marked, in the log; and stopped by whoever may stop it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.workers.house import LONG, SHORT, House, now, wait_for
from tests.workers.test_jobs import RECORDING, detection, served

from vivavoce.ledger.tables import JobKind, JobStatus
from vivavoce.release import chunks, stream
from vivavoce.release.chunks import ChunkMarker
from vivavoce.release.door import ReleaseRefused
from vivavoce.release.registered import owner
from vivavoce.release.stream import ReleasedChunk, has_more, stream_of, take
from vivavoce.release.withdrawal import withdraw
from vivavoce.workers.jobs import JobRunner


def queued(house: House, text: str = LONG, **more: object) -> str:
    return house.queue(request={"text": text, "seed": 1, "stream": True} | more)


@contextmanager
def running(runner: JobRunner, job_id: str) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=runner.run, args=(job_id,))
    thread.start()
    yield thread
    thread.join()


def wait_for_chunk(house: House, job_id: str, after: int = -1) -> None:
    def there() -> bool:
        with house.database.read() as session:
            stream = stream_of(session, job_id)
            return stream is not None and has_more(session, stream, after)

    wait_for(there, f"a chunk behind {after}")


def taken(house: House, job_id: str, after: int = -1) -> list[ReleasedChunk]:
    with house.database.write() as session:
        tenant = house.account.tenant_id
        return take(session, house.log, house.keyring, job_id, tenant, after, now(), actor="key_test")


def test_the_first_chunk_can_be_had_before_the_job_has_ended(house: House, runner: JobRunner) -> None:
    job_id = queued(house)
    with running(runner, job_id):
        wait_for_chunk(house, job_id)
        assert house.job(job_id).status == JobStatus.RUNNING
        left = taken(house, job_id)
        assert left and house.job(job_id).status == JobStatus.RUNNING
    house.check_one_end(job_id, JobStatus.SUCCEEDED)
    while more := taken(house, job_id, left[-1].number):
        left += more
    output, (opened,) = (
        house.output(job_id),
        [leaf for leaf in house.leaves("stream:open") if leaf["refs"]["job"] == job_id],
    )
    assert output is not None and output.id == opened["refs"]["output"] == left[0].output_id
    released = served(house, job_id)
    assert b"".join(chunk.data for chunk in left) == released.data
    (said,) = house.outcomes(job_id)
    assert (said["sha256"], said["stream"]) == (released.sha256, output.id)
    found = house.job(detection(house, runner, released.data)).result
    assert found is not None and found["verdict"] == "ours"
    assert found["resolution"]["identity"] == output.mark_identity


def test_a_withdrawal_stops_it_at_the_next_chunk_and_is_logged(house: House, runner: JobRunner) -> None:
    consent_id, voice_id = house.another_voice()
    job_id = house.queue(voice_id=voice_id, request={"text": LONG, "seed": 1, "stream": True})
    with running(runner, job_id):
        wait_for_chunk(house, job_id)
        left = taken(house, job_id)
        with house.database.write() as session:
            withdraw(session, house.log, consent_id, "stop", "subject", now())
        with pytest.raises(ReleaseRefused) as refused:
            taken(house, job_id, left[-1].number)
    assert refused.value.code == "consent_revoked"
    house.check_one_end(job_id, JobStatus.REFUSED, "consent_revoked")
    (said,) = house.outcomes(job_id)
    assert said["left_bytes"] == sum(len(chunk.data) for chunk in left)
    with house.database.read() as session:
        stream = stream_of(session, job_id)
        assert stream is not None and owner(session, stream.mark_identity) is not None


def test_a_mark_that_cannot_be_proved_ends_the_stream(
    house: House, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChunkMarker, "_is_read", lambda self, seconds: self._seconds < 3)
    monkeypatch.setattr(chunks, "PATIENCE_SECONDS", 1.0)
    job_id = queued(house)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "mark_not_found")
    with house.database.read() as session:
        assert stream_of(session, job_id) is not None
    with pytest.raises(ReleaseRefused, match="not read again"):
        taken(house, job_id)


def test_what_was_begun_and_lost_is_not_begun_again(house: House, runner: JobRunner) -> None:
    """A worker is lost in the middle: the next one ends the job, for nobody could go on with the same sound."""
    job_id = queued(house, SHORT)
    host = runner.host
    with monkeypatched_stop(runner), running(runner, job_id):
        pass
    assert house.job(job_id).status == JobStatus.QUEUED
    given_back = [host.unfinished.get_nowait() for _ in range(host.unfinished.qsize())]  # earlier tests' too
    assert given_back[-1] == job_id
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.FAILED, "stream_interrupted")


@contextmanager
def monkeypatched_stop(runner: JobRunner) -> Iterator[None]:
    """Tell the worker to stop as soon as a stream's first chunk is laid down."""
    put = stream.put

    def put_and_stop(*given: object) -> bool:
        done = put(*given)  # type: ignore[arg-type]
        runner.host.stopping.set()
        return done

    stream.put = put_and_stop  # type: ignore[assignment]
    try:
        yield
    finally:
        stream.put = put
        runner.host.stopping.clear()


def test_speed_and_conversion_are_streamed_too(house: House, runner: JobRunner) -> None:
    fast = queued(house, SHORT, speed=1.5)
    converted = house.queue(kind=JobKind.CONVERSION, request={"seed": 3, "stream": True}, input=RECORDING, format="mp3")
    for job_id in (fast, converted):
        runner.run(job_id)
        house.check_one_end(job_id, JobStatus.SUCCEEDED)
        assert b"".join(chunk.data for chunk in taken(house, job_id)) == served(house, job_id).data

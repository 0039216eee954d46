"""A stream at the door: logged and registered before it leaves, asked about chunk by chunk, and gone in time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from sqlalchemy import select
from tests.consent.world import NOW, World
from tests.release.desk import LABELS, begin, fetch, finish_with, mark, put_down

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease
from vivavoce.ledger.streams import OutputChunk, OutputStream
from vivavoce.ledger.tables import Job, JobStatus
from vivavoce.release import marking
from vivavoce.release.chunks import ChunkMarker, MarkedChunk
from vivavoce.release.door import ReleaseRefused, Withheld
from vivavoce.release.outcome import cancel, finish
from vivavoce.release.registered import identities, owner
from vivavoce.release.retention import CHUNKS_KEPT, retire
from vivavoce.release.stream import ReleasedChunk, has_more, put, stream_of, take
from vivavoce.release.withdrawal import erase, withdraw
from vivavoce.watermark import Marker

torch.set_num_threads(1)
LATER = NOW + timedelta(seconds=5)


@pytest.fixture(scope="module")
def marker() -> Iterator[Marker]:
    return Marker.load(secret=b"s" * 32)


class Opened:
    """A job whose stream may begin: a disclosure that waits for its voice."""

    def __init__(self, world: World, marker: Marker) -> None:
        self.world = world
        self.consent_id = world.consent()
        self.job, self.lease = begin(world, world.voice(self.consent_id))
        self.marker = ChunkMarker(24_000, "wav", new_id("out"), marker=marker, keyring=world.keyring, labels=LABELS)
        chunk = self.marker.feed(np.zeros(0, dtype=np.float32))
        assert chunk is not None
        self.chunk: MarkedChunk = chunk

    def put(self, lease: Lease | None = None, now: datetime = NOW) -> bool:
        world = self.world
        with world.database.write() as session:
            return put(session, world.log, world.keyring, lease or self.lease, self.chunk, self.marker, now)

    def take(self, after: int = -1, tenant_id: str | None = None, now: datetime = LATER) -> list[ReleasedChunk]:
        world = self.world
        with world.database.write() as session:
            tenant = tenant_id or world.account.tenant_id
            return take(session, world.log, world.keyring, self.job.id, tenant, after, now, actor="key_test")

    def refused(self, **changes: str) -> str:
        with pytest.raises(ReleaseRefused) as refused:
            self.take(**changes)  # type: ignore[arg-type]
        return refused.value.code

    def outcome(self) -> dict[str, object]:
        (leaf,) = [leaf for leaf in self.world.leaves("job:outcome") if leaf["refs"]["job"] == self.job.id]
        return dict(leaf["facts"])


@pytest.fixture
def opened(world: World, marker: Marker) -> Opened:
    return Opened(world, marker)


def test_log_and_registry_come_before_the_first_chunk(opened: Opened) -> None:
    world = opened.world
    assert opened.refused() == "unknown_output"
    assert opened.put()
    (leaf,) = world.leaves("stream:open")
    assert leaf["refs"]["output"] == opened.marker.output_id and leaf["refs"]["job"] == opened.job.id
    assert leaf["facts"]["mark_identity"] == opened.marker.identity
    with world.database.read() as session:
        found = owner(session, opened.marker.identity)
        assert found is not None and (found.output, found.job) == (opened.marker.output_id, opened.job.id)
        assert opened.marker.identity in np.concatenate(list(identities(session)))
    assert world.leaves("output:deliver") == []


def test_what_is_taken_is_what_was_put_and_its_delivery_is_logged_once_a_listener(opened: Opened) -> None:
    opened.put()
    with opened.world.database.read() as session:
        row, stream = session.scalars(select(OutputChunk)).one(), stream_of(session, opened.job.id)
        assert stream is not None and has_more(session, stream, -1) and not has_more(session, stream, 0)
    assert opened.chunk.data[:400] not in row.sealed and row.taken_at is None
    (released,) = opened.take()
    assert (released.data, released.number, released.media_type) == (opened.chunk.data, 0, "audio/wav")
    assert opened.take(after=0) == []
    (leaf,) = opened.world.leaves("output:deliver")
    assert (leaf["actor"], leaf["facts"]) == ("key_test", {"streamed": True})
    with opened.world.database.read() as session:
        assert session.scalars(select(OutputChunk.taken_at)).one() == LATER


def test_another_tenant_gets_nothing(opened: Opened) -> None:
    opened.put()
    assert opened.refused(tenant_id="ten_other") == "unknown_output"


@pytest.mark.parametrize("taken", [True, False])
def test_a_withdrawal_ends_it_and_says_how_much_had_left(opened: Opened, taken: bool) -> None:
    world = opened.world
    opened.put()
    if taken:
        opened.take()
    with world.database.write() as session:
        withdraw(session, world.log, opened.consent_id, "no more", "subject", LATER)
    assert not opened.put()
    assert opened.refused() == "consent_revoked"
    said = opened.outcome()
    assert (said["status"], said["code"]) == ("refused", "consent_revoked")
    assert said["stream"] == opened.marker.output_id
    assert said["left_chunks"] == int(taken)
    assert said["left_bytes"] == (len(opened.chunk.data) if taken else 0)
    with world.database.read() as session:
        # What has left can still be told by its mark.
        assert owner(session, opened.marker.identity) is not None


def test_a_withdrawal_that_skipped_the_job_is_seen_by_the_next_chunk(opened: Opened) -> None:
    """On PostgreSQL a withdrawal does not wait for a job that somebody holds."""
    opened.put()
    opened.world.revoke(opened.consent_id, LATER)
    with pytest.raises(ReleaseRefused) as refused:
        opened.put()
    assert refused.value.code == "consent_revoked"
    assert opened.refused() == "consent_revoked"


def test_cancelling_ends_it(opened: Opened) -> None:
    world = opened.world
    opened.put()
    opened.take()
    with world.database.write() as session:
        assert cancel(session, world.log, opened.job.id, actor="key_test", now=LATER)
    assert not opened.put()
    assert opened.refused() == "cancelled"
    assert opened.outcome()["left_chunks"] == 1


def test_a_lost_lease_puts_nothing(opened: Opened) -> None:
    assert not opened.put(Lease(opened.job.id, "another", opened.lease.attempt))
    assert opened.world.leaves("stream:open") == []


def test_the_identity_of_another_stream_is_not_taken_twice(opened: Opened, marker: Marker) -> None:
    opened.put()
    other = Opened(opened.world, marker)
    other.marker.identity = opened.marker.identity
    with pytest.raises(ReleaseRefused) as refused:
        other.put()
    assert refused.value.code == "mark_identity_taken"


def test_no_output_takes_the_identity_of_a_stream_that_broke_off(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something of the stream has left: its mark names it, and nothing else."""
    world = opened.world
    opened.put()
    with world.database.write() as session:
        assert cancel(session, world.log, opened.job.id, actor="key_test", now=LATER)
    _, lease = begin(world, world.voice(opened.consent_id))
    monkeypatch.setattr(marking, "mark_identity", lambda *_: opened.marker.identity)
    twin = put_down(world, lease)
    before = world.snapshot()
    with pytest.raises(ReleaseRefused) as refused:
        finish_with(world, twin)
    assert refused.value.code == "mark_identity_taken"
    assert world.snapshot() == before


def test_chunks_of_a_whole_that_is_withheld_are_too(opened: Opened) -> None:
    world = opened.world
    opened.put()
    whole = put_down(world, opened.lease, mark(world.keyring, output_id=opened.marker.output_id))
    assert finish_with(world, whole) is not None
    assert len(opened.take()) == 1
    world.store.put(whole.object_key, b"something else")
    assert isinstance(fetch(world, opened.marker.output_id, LATER), Withheld)
    assert opened.refused() == "output_altered"


def test_an_erased_person_leaves_no_chunk(opened: Opened) -> None:
    world = opened.world
    opened.put()
    with world.database.write() as session:
        erase(session, world.log, opened.job.subject_id or "", "subject", LATER)
    with world.database.read() as session:
        assert session.scalars(select(OutputChunk)).all() == []
        assert session.scalars(select(OutputStream.id)).all() == [opened.marker.output_id]
    assert opened.refused() == "consent_erased"


def test_chunks_are_deleted_soon_after_the_end_and_not_before(opened: Opened) -> None:
    world = opened.world
    opened.put()

    def kept(now: datetime) -> int:
        with world.database.write() as session:
            retire(session, world.log, "worker:1", now)
            return len(session.scalars(select(OutputChunk)).all())

    assert kept(NOW + timedelta(hours=1)) == 1
    with world.database.write() as session:
        ended = session.get_one(Job, opened.job.id)
        failed = JobStatus.FAILED
        finish(session, world.log, opened.lease, ended.id, failed, now=LATER, error_code="model_error")
    assert kept(LATER + CHUNKS_KEPT - timedelta(seconds=1)) == 1
    assert kept(LATER + CHUNKS_KEPT) == 0

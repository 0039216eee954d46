"""Whose mark it is: a fragment names exactly its output among many, and nobody can make it name another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import insert, select
from tests.consent.world import SPEECH, World, on_sqlite
from tests.provenance.authority import credential
from tests.release.desk import LABELS, made

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import Job, Output
from vivavoce.release.door import Marked, prepare
from vivavoce.release.registered import identities, owner
from vivavoce.sound import Sound, decode
from vivavoce.watermark import Detection, Marker, Resolution

torch.set_num_threads(1)
MANY = 10_000
LONG = decode((SPEECH / "austen-0870.flac").read_bytes())


@pytest.fixture
def marker(world: World) -> Marker:
    return Marker.load(secret=world.keyring.mark_key)


def register(world: World, like: Output, numbers: list[int]) -> None:
    """Enter outputs that differ from one that is there by their ids and identities."""
    with world.database.write() as session:
        job: Any = session.execute(select(Job.__table__).where(Job.id == like.job_id)).mappings().one()
        output: Any = session.execute(select(Output.__table__).where(Output.id == like.id)).mappings().one()
        jobs = [new_id("job") for _ in numbers]
        session.execute(insert(Job), [{**job, "id": id_} for id_ in jobs])
        rows = zip(jobs, numbers, strict=True)
        new: list[dict[str, Any]] = [
            {**output, "id": new_id("out"), "job_id": id_, "mark_identity": number} for id_, number in rows
        ]
        session.execute(insert(Output), new)


def marked_by(world: World, marker: Marker) -> Marked:
    return prepare(
        LONG.samples,
        LONG.sample_rate,
        "mp3",
        new_id("out"),
        marker=marker,
        keyring=world.keyring,
        credential=credential(),
        labels=LABELS,
    )


def asked(world: World, marker: Marker, found: Detection, batch: int = 50_000) -> Resolution | None:
    if found.reading is None:
        return None
    with world.database.read() as session:
        return marker.code.resolve(found.reading, identities(session, batch))


def fragments(sound: Sound, seconds: float) -> Iterator[np.ndarray]:
    length = int(seconds * sound.sample_rate)
    for start in (0.3, 1.7, 3.9):
        first = int(start * sound.sample_rate)
        yield sound.samples[first : first + length]


@on_sqlite
def test_three_seconds_of_a_released_file_name_its_output_among_ten_thousand(world: World, marker: Marker) -> None:
    marked = marked_by(world, marker)
    output = made(world, world.voice(world.consent()), marked)
    others = np.random.default_rng(1).choice(2**48, MANY - 1, replace=False).tolist()
    register(world, output, others)
    file = decode(marked.data)
    for fragment in fragments(file, 3.0):
        resolution = asked(world, marker, marker.detect(fragment, file.sample_rate))
        assert resolution is not None
        assert (resolution.identity, resolution.searched) == (output.mark_identity, MANY)
        assert resolution.false_attribution <= 1e-6
        with world.database.read() as session:
            named = owner(session, resolution.identity or 0)
        assert named is not None
        assert (named.output, named.tenant, named.consent) == (output.id, output.tenant_id, output.consent_id)


@on_sqlite
def test_a_fragment_whose_output_is_not_registered_names_nobody(world: World, marker: Marker) -> None:
    """Made by us, and the row is gone or was never committed: candidates at most, never somebody else."""
    stray = marked_by(world, marker)
    output = made(world, world.voice(world.consent()))
    register(world, output, np.random.default_rng(2).choice(2**48, 1000, replace=False).tolist())
    file = decode(stray.data)
    for fragment in fragments(file, 3.0):
        resolution = asked(world, marker, marker.detect(fragment, file.sample_rate))
        assert resolution is not None
        assert resolution.identity is None
        assert resolution.false_attribution > 1e-6


@on_sqlite
def test_a_mark_made_with_another_secret_names_nobody(world: World, marker: Marker) -> None:
    """A forger knows the weights, this code and an output's identity, and accuses that output in vain."""
    output = made(world, world.voice(world.consent()), marked_by(world, marker))
    assert output.mark_identity is not None
    forger = Marker.load(secret=b"f" * 32)
    forged = forger.embed(LONG.samples, LONG.sample_rate, output.mark_identity)
    assert asked(world, marker, marker.detect(forged, LONG.sample_rate)) is None
    read = forger.detect(forged, LONG.sample_rate)
    assert read.reading is not None
    resolution = asked(world, marker, read)
    assert resolution is not None
    assert (resolution.identity, resolution.searched) == (None, 1)
    assert marker.doubt(read.reading, output.mark_identity) > 1e-6


def test_all_identities_are_given_once_whatever_the_batch(world: World) -> None:
    """Those of other tenants too; outputs whose marks are of the first kind have none."""
    output = made(world, world.voice(world.consent()))
    assert output.mark_identity is not None
    numbers = [0, 1, 2**47, 2**48 - 1, 5, 6]
    register(world, output, numbers)
    with world.database.write() as session:
        session.execute(Output.__table__.update().where(Output.mark_identity == 6).values(mark_identity=None))  # type: ignore[attr-defined]
    for batch in (1, 2, 4, 50_000):
        with world.database.read() as session:
            given = list(identities(session, batch))
        assert all(part.dtype == np.uint64 and len(part) <= batch for part in given)
        assert sorted(np.concatenate(given).tolist()) == sorted([*numbers[:-1], output.mark_identity])
    with world.database.read() as session:
        assert owner(session, 6) is None
        found = owner(session, 2**48 - 1)
    assert found is not None
    assert found.tenant == output.tenant_id


def test_an_empty_registry_names_nobody(world: World) -> None:
    with world.database.read() as session:
        assert list(identities(session)) == []
        assert owner(session, 0) is None

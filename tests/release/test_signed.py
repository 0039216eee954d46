"""Both layers in what leaves: the door signs what it marked, keeps manifests that files cannot carry, or refuses."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import c2pa
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from tests.consent.world import World, on_sqlite
from tests.provenance.authority import PEM, Authority, credential
from tests.release.desk import LABELS, SPOKEN, QuickMarker, begin, fetch, finish_with, put_down

from vivavoce.ledger.envelope import destroy_subject_key
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Output, Subject
from vivavoce.provenance import Credential, ProvenanceError, binds, read_provenance
from vivavoce.release.door import Marked, Released, manifest_beside, prepare
from vivavoce.sound import FORMATS, SPEECH_RATE, Format, resample
from vivavoce.watermark import Marker

BESIDE = ("opus", "aac", "pcm")


@pytest.fixture
def voice(world: World) -> str:
    return world.voice(world.consent())


def through(keyring: KeyRing, signer: Credential, format: Format = "wav", source: str | None = None) -> Marked:  # noqa: A002
    return prepare(
        resample(SPOKEN.samples, SPOKEN.sample_rate, SPEECH_RATE), SPEECH_RATE, format, new_id("out"),
        marker=QuickMarker(), keyring=keyring, credential=signer, labels=replace(LABELS, input_sha256=source),
    )  # fmt: skip


def beside(world: World, output: Output) -> bytes | None:
    with world.database.read() as session:
        return manifest_beside(session, world.store, world.keyring, session.get_one(Output, output.id))


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_released_carries_mark_and_manifest_of_one_output(keyring: KeyRing, format: Format) -> None:  # noqa: A002
    """With the marks that ship; `prepare` looked for the mark in the signed bytes, since there are no others."""
    torch.set_num_threads(1)
    marked = prepare(
        SPOKEN.samples, SPOKEN.sample_rate, format, new_id("out"), marker=Marker.load(secret=keyring.mark_key),
        keyring=keyring, credential=credential(), labels=LABELS,
    )  # fmt: skip
    seen = read_provenance(marked.data, credential().roots, marked.manifest)
    assert (seen.state, seen.output_id, seen.generated) == ("valid", marked.output_id, True)
    assert seen.created_at == "2026-11-23T12:00:00Z"
    assert seen.binding is not None and binds(keyring.mark_key, marked.identity, seen.binding)
    assert (marked.manifest is None) == (format not in BESIDE)
    assert marked.sha256 == hashlib.sha256(marked.data).hexdigest()
    assert marked.identity_read


def test_a_manifest_that_the_file_cannot_carry_is_kept_with_the_output(world: World, voice: str) -> None:
    _, lease = begin(world, voice)
    marked = through(world.keyring, credential(), "pcm")
    output = finish_with(world, put_down(world, lease, marked))
    assert output is not None
    released = fetch(world, output.id)
    assert isinstance(released, Released)
    assert (released.data, released.sha256, output.size_bytes) == (marked.data, marked.sha256, len(marked.data))
    manifest = beside(world, output)
    assert manifest == marked.manifest
    assert read_provenance(released.data, credential().roots, manifest).output_id == output.id
    assert world.store.list("outputs") == [output.object_key]
    sealed = world.store.get(output.object_key)
    assert b"c2pa" not in sealed
    with world.database.write() as session:
        destroy_subject_key(session.get_one(Subject, output.subject_id), datetime.now(UTC))
    assert beside(world, output) is None


@on_sqlite
def test_a_file_that_carries_its_manifest_has_none_beside_it(world: World, voice: str) -> None:
    _, lease = begin(world, voice)
    output = finish_with(world, put_down(world, lease))
    assert output is not None
    assert beside(world, output) is None


def test_a_released_conversion_names_its_input_by_digest(keyring: KeyRing) -> None:
    marked = through(keyring, credential(), source="ab" * 32)
    trust = c2pa.Context.from_dict({"trust": {"trust_anchors": credential().roots}})
    read = json.loads(c2pa.Reader("audio/wav", io.BytesIO(marked.data), context=trust).json())
    assert read["validation_state"] == "Trusted"
    (ingredient,) = read["manifests"][read["active_manifest"]]["ingredients"]
    assert ingredient["relationship"] == "inputTo"
    assert ingredient["instance_id"].startswith("ni:///sha-256;q6urq6ur")


def test_what_cannot_be_signed_does_not_leave(keyring: KeyRing) -> None:
    """A certificate that ran out, a key that is not its own, roots that would not trust it."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    ended = authority.leaf(key, -timedelta(days=9), -timedelta(days=1))
    other = Authority().root().public_bytes(PEM).decode()
    for broken in (
        replace(credential(), chain=(ended,), key=key),
        replace(credential(), key=key),
        replace(credential(), roots=other),
        replace(credential(), roots=""),
    ):
        with pytest.raises(ProvenanceError):
            through(keyring, broken)

"""Released, Marked and Deposited mean what they say: nobody outside the release can make one."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from tests.consent.world import World
from tests.release.desk import LABELS, fetch, made, mark

from vivavoce.ledger.lease import Lease
from vivavoce.release.door import Deposited, Marked, Released


def test_released_cannot_be_made_outside() -> None:
    facts = {"media_type": "audio/wav", "format": "wav", "output_id": "out_1", "sha256": "", "filename": "x.wav"}
    with pytest.raises(TypeError):
        Released(data=b"unmarked", **facts)  # type: ignore[call-arg, arg-type]
    for token in (None, True, object(), Released):
        with pytest.raises(TypeError, match=r"vivavoce\.release alone"):
            Released(data=b"unmarked", **facts, made_by=token)  # type: ignore[arg-type]


def test_marked_and_deposited_cannot_be_made_outside(small_world: World) -> None:
    """Else a worker with a bug could commit what was never marked."""
    with pytest.raises(TypeError):
        Marked("out_1", b"unmarked", "wav", "audio/wav", "", 16000, 1.0, 0, True, 9.9, 1.0, 20.0, LABELS, object())
    with pytest.raises(TypeError):
        Deposited(mark(small_world.keyring), Lease("job_1", "me", 1), "outputs/job_1/1", object())


def test_a_proof_cannot_be_changed_copied_stored_or_inherited(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    marked = mark(small_world.keyring)
    released = fetch(small_world, made(small_world, voice, marked).id)
    assert isinstance(released, Released)
    for proof in (marked, released):
        with pytest.raises((TypeError, ValueError)):
            replace(proof, data=b"unmarked")
        with pytest.raises(FrozenInstanceError):
            proof.data = b"unmarked"  # type: ignore[misc]
        for travel in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="does not travel"):
                travel(proof)
        with pytest.raises(TypeError, match="final"):
            type("Fake", (type(proof),), {"__post_init__": lambda self, made_by: None})


def test_a_proof_does_not_print_its_bytes(small_world: World) -> None:
    assert "data" not in repr(mark(small_world.keyring))

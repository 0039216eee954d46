"""Two layers in one file, each on its own: the mark outlives the manifest, and the manifest does not hurt the mark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.provenance.conftest import IDENTITY, MARK_KEY, MEDIA, ORIGIN, labelled, speech

from vivavoce.provenance import Credential, Signed, binds, read_provenance, sign
from vivavoce.sound import SPEECH_RATE, decode, encode
from vivavoce.watermark import Detection, Marker

torch.set_num_threads(1)

OTHERS = np.arange(1, 200, dtype=np.uint64)


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker.load(secret=MARK_KEY)


@pytest.fixture(scope="module")
def marked(marker: Marker) -> np.ndarray:
    return marker.embed(speech(), SPEECH_RATE, IDENTITY)


def heard(marker: Marker, kind: str, data: bytes) -> Detection:
    if kind == "pcm":
        return marker.detect(np.frombuffer(data, "<i2").astype(np.float32) / 32767, SPEECH_RATE, search=False)
    sound = decode(data)
    return marker.detect(sound.samples, sound.sample_rate, search=False)


def named(marker: Marker, found: Detection) -> int | None:
    assert found.reading is not None
    return marker.code.resolve(found.reading, [np.append(OTHERS, np.uint64(IDENTITY))]).identity


@pytest.mark.parametrize("kind", MEDIA)
def test_both_layers_are_in_the_very_bytes_and_name_the_same_output(
    marker: Marker, marked: np.ndarray, kind: str, credential: Credential
) -> None:
    file = sign(labelled(kind, samples=marked), MEDIA[kind], ORIGIN, credential)
    seen, found = read_provenance(file.data, credential.roots, file.sidecar), heard(marker, kind, file.data)
    assert (seen.state, found.found) == ("valid", True)
    identity = named(marker, found)
    assert identity == IDENTITY
    assert binds(MARK_KEY, identity, seen.binding or "")


def test_the_manifest_stripped_the_mark_is_still_there(
    marker: Marker, marked: np.ndarray, credential: Credential
) -> None:
    file = sign(labelled("wav", samples=marked), "audio/wav", ORIGIN, credential)
    bare = encode(decode(file.data).samples, SPEECH_RATE, "mp3")
    assert read_provenance(bare, credential.roots).state == "none"
    assert named(marker, heard(marker, "mp3", bare)) == IDENTITY


def test_the_mark_stripped_the_manifest_says_so(marker: Marker, signed: dict[str, Signed]) -> None:
    """Signed without a mark, as a mistake of ours would be: the manifest is valid, and the mark is not invented."""
    assert not heard(marker, "wav", signed["wav"].data).found


def test_a_manifest_that_was_made_for_another_mark_is_told_apart(
    marker: Marker, marked: np.ndarray, credential: Credential
) -> None:
    """Both layers hold, and yet they do not belong together: only a mistake inside this house can make such a file."""
    other = replace(ORIGIN, binding="0" * 64)
    file = sign(labelled("flac", samples=marked), "audio/flac", other, credential)
    seen = read_provenance(file.data, credential.roots)
    identity = named(marker, heard(marker, "flac", file.data))
    assert seen.state == "valid"
    assert identity == IDENTITY
    assert not binds(MARK_KEY, identity, seen.binding or "")

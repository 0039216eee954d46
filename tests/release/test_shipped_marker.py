"""The real marker at the door: found in every format that is served, and refused where it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.consent.world import NOW, SPEECH, World, on_sqlite
from tests.release.desk import SPOKEN, fetch, made

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.release.door import Labels, Marked, Released, ReleaseRefused, prepare
from vivavoce.sound import FORMATS, SPEECH_RATE, Format, Samples, Sound, decode
from vivavoce.watermark import Detection, Marker, MarkError
from vivavoce.watermark.networks import Networks, NetworkSize
from vivavoce.watermark.weights import Settings, save

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker.load()


def untrained(folder: Path) -> Marker:
    """The real networks, in the right files and shape, with a detector that was never taught to see anything."""
    torch.manual_seed(0)
    networks = Networks(NetworkSize())
    for weight in networks.detector.parameters():
        torch.nn.init.zeros_(weight)
    save(folder, networks, Settings("untrained", networks.size, 20.0, 0.6, {}))
    return Marker.load(folder)


def through(marker: Marker, keyring: KeyRing, format: Format, sound: Sound = SPOKEN) -> Marked:  # noqa: A002
    labels = Labels(model_id="test-model", assurance="attested", created_at=NOW)
    return prepare(
        sound.samples, sound.sample_rate, format, new_id("out"), marker=marker, keyring=keyring, labels=labels
    )


@pytest.mark.parametrize("format", FORMATS)
def test_the_mark_is_in_the_very_bytes_that_are_served(marker: Marker, keyring: KeyRing, format: Format) -> None:  # noqa: A002
    """Looked for by a second detector, in nothing but the file, as a stranger who holds it would."""
    marked = through(marker, keyring, format)
    if format == "pcm":
        heard = np.frombuffer(marked.data, "<i2").astype(np.float32) / 32768, SPEECH_RATE
    else:
        file = decode(marked.data)
        heard = file.samples, file.sample_rate
    assert Marker.load().detect(*heard).found
    assert not marker.detect(SPOKEN.samples, SPOKEN.sample_rate).found


def test_every_clip_of_real_speech_can_be_released(marker: Marker, keyring: KeyRing) -> None:
    for path in sorted(SPEECH.glob("*.flac")):
        marked = through(marker, keyring, "mp3", decode(path.read_bytes()))
        assert marked.score >= marker.threshold


class Unmarking:
    """The real detector behind an embedder that gives the sound back as it was."""

    def __init__(self, marker: Marker) -> None:
        self.marker, self.bits = marker, marker.bits

    def embed(self, samples: Samples, sample_rate: int, message: int, strength: float) -> Samples:
        return samples

    def detect(self, samples: Samples, sample_rate: int) -> Detection:
        return self.marker.detect(samples, sample_rate)


@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "pcm"])
def test_unmarked_speech_never_leaves(marker: Marker, keyring: KeyRing, format: Format) -> None:  # noqa: A002
    with pytest.raises(ReleaseRefused, match="mark_not_found"):
        prepare(
            SPOKEN.samples, SPOKEN.sample_rate, format, new_id("out"),
            marker=Unmarking(marker), keyring=keyring, labels=Labels("test-model", "attested", NOW),
        )  # fmt: skip


def test_weights_that_find_nothing_release_nothing(keyring: KeyRing, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="mark_not_found"):
        through(untrained(tmp_path), keyring, "wav")


def test_without_weights_there_is_no_marker_and_so_no_sound(tmp_path: Path) -> None:
    """`prepare` cannot be called without a marker, and there is none to be had."""
    with pytest.raises(MarkError):
        Marker.load(tmp_path)


def test_what_is_too_short_or_silent_to_carry_a_mark_does_not_leave(keyring: KeyRing, tmp_path: Path) -> None:
    marker = untrained(tmp_path)
    for samples in (SPOKEN.samples[:4000], np.zeros(32000, np.float32)):
        with pytest.raises(MarkError):
            through(marker, keyring, "wav", Sound(samples, 16000, 1))


@on_sqlite
def test_from_request_to_download_with_the_real_marker(marker: Marker, world: World) -> None:
    voice = world.voice(world.consent())
    released = fetch(world, made(world, voice, through(marker, world.keyring, "opus")).id)
    assert isinstance(released, Released)
    file = decode(released.data)
    assert marker.detect(file.samples, file.sample_rate).found
    facts = world.leaves("job:outcome")[0]["facts"]
    assert facts["mark_score"] >= round(marker.threshold, 4)
    assert facts["format"] == "opus"

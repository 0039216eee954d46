"""The real marker at the door: found in every format that is served, and refused where it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.consent.world import NOW, SPEECH, World, on_sqlite
from tests.provenance.authority import credential
from tests.release.desk import SPOKEN, fetch, made

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.release.door import Labels, Marked, Released, ReleaseRefused, prepare
from vivavoce.sound import FORMATS, SPEECH_RATE, Format, Samples, Sound, decode
from vivavoce.watermark import Detection, Marker, MarkError, Verdict

torch.set_num_threads(1)
SECRET = b"s" * 32


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker.load(secret=SECRET)


def through(
    marker: Marker,
    keyring: KeyRing,
    format: Format,  # noqa: A002
    sound: Sound = SPOKEN,
    disclosure: str | None = "en",
) -> Marked:
    labels = Labels(model_id="test-model", assurance="attested", created_at=NOW, disclosure=disclosure)
    return prepare(
        sound.samples,
        sound.sample_rate,
        format,
        new_id("out"),
        marker=marker,
        keyring=keyring,
        credential=credential(),
        labels=labels,
    )


@pytest.mark.parametrize("format", FORMATS)
def test_the_mark_is_in_the_very_bytes_that_are_served(marker: Marker, keyring: KeyRing, format: Format) -> None:  # noqa: A002
    """Looked for by a second detector of the same operator, in nothing but the file."""
    marked = through(marker, keyring, format)
    if format == "pcm":
        heard = np.frombuffer(marked.data, "<i2").astype(np.float32) / 32768, SPEECH_RATE
    else:
        file = decode(marked.data)
        heard = file.samples, file.sample_rate
    found = Marker.load(secret=SECRET).detect(*heard)
    assert (found.verdict, found.reason) == (Verdict.OURS, "")
    assert found.reading is not None
    assert marker.doubt(found.reading, marked.identity) < 1e-12
    assert marked.identity_read
    assert not marker.detect(SPOKEN.samples, SPOKEN.sample_rate).found


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_the_disclosure_can_be_cut_off_and_the_mark_cannot(marker: Marker, keyring: KeyRing, format: Format) -> None:  # noqa: A002
    """What is left of a sound without its first words is marked as the whole was."""
    file = decode(through(marker, keyring, format).data)
    plain = decode(through(marker, keyring, format, disclosure=None).data)
    said = file.seconds - plain.seconds
    assert 1.5 < said < 3.5
    found = marker.detect(file.samples[round(said * file.sample_rate) :], file.sample_rate)
    assert found.verdict is Verdict.OURS


def test_a_disclosure_alone_carries_no_sound_out(marker: Marker, keyring: KeyRing) -> None:
    """The mark is looked for in what the model made: the words before it do not stand in for it."""
    silence = Sound(np.zeros(48000, np.float32), 24000, 1)
    with pytest.raises((ReleaseRefused, MarkError)):
        through(marker, keyring, "wav", silence)


def test_every_clip_of_real_speech_can_be_released(marker: Marker, keyring: KeyRing) -> None:
    for path in sorted(SPEECH.glob("*.flac")):
        marked = through(marker, keyring, "mp3", decode(path.read_bytes()))
        assert marked.score >= marker.threshold
        assert (marked.identity_read, marked.strength) == (True, 1.0)


@pytest.mark.parametrize("seconds", [0.5, 0.7, 1.0])
def test_a_word_or_two_can_be_released(marker: Marker, keyring: KeyRing, seconds: float) -> None:
    """From the shortest sound on that may carry a mark: found again in an MP3 file, or refused, and never unmarked."""
    first = SPOKEN.sample_rate
    samples = SPOKEN.samples[first : first + int(seconds * SPOKEN.sample_rate)]
    marked = through(marker, keyring, "mp3", Sound(samples, SPOKEN.sample_rate, 1))
    assert marked.score >= marker.threshold
    file = decode(marked.data)
    assert marker.detect(file.samples, file.sample_rate).found
    assert not marker.detect(samples, SPOKEN.sample_rate).found


class Unmarking:
    """The real detector behind an embedder that gives the sound back as it was."""

    def __init__(self, marker: Marker) -> None:
        self.marker, self.doubt, self.require = marker, marker.doubt, marker.require

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        return samples

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Detection:
        return self.marker.detect(samples, sample_rate, search=search)


class Stranger(Unmarking):
    """Marks with the public weights and a secret of its own."""

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        return Marker.load(secret=b"f" * 32).embed(samples, sample_rate, identity, strength)


@pytest.mark.parametrize(
    ("broken", "format"),
    [(Unmarking, "wav"), (Unmarking, "mp3"), (Unmarking, "opus"), (Unmarking, "pcm"), (Stranger, "wav")],
)
def test_unmarked_speech_never_leaves(
    marker: Marker, keyring: KeyRing, broken: type[Unmarking], format: Format  # noqa: A002
) -> None:  # fmt: skip
    with pytest.raises(ReleaseRefused, match="mark_not_found"):
        prepare(
            SPOKEN.samples, SPOKEN.sample_rate, format, new_id("out"),
            marker=broken(marker), keyring=keyring, credential=credential(),
            labels=Labels("test-model", "attested", NOW),
        )  # fmt: skip


def test_without_the_secret_nothing_is_released(keyring: KeyRing) -> None:
    with pytest.raises(MarkError, match="no_secret"):
        through(Marker.load(), keyring, "wav")


def test_without_weights_there_is_no_marker_and_so_no_sound(tmp_path: Path) -> None:
    """`prepare` cannot be called without a marker, and there is none to be had."""
    with pytest.raises(MarkError):
        Marker.load(tmp_path)


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (SPOKEN.samples[:7999], "too_short"),
        (np.zeros(32000, np.float32), "silent"),
        (np.full(32000, 5e-4, np.float32), "silent"),
    ],
)
def test_what_is_too_short_or_silent_to_carry_a_mark_does_not_leave(
    marker: Marker, keyring: KeyRing, samples: Samples, code: str
) -> None:
    with pytest.raises(MarkError, match=code):
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

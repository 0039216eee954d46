"""Chunks of a sound that is still being made: each was marked, and proved so before it was given, or the sound ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.consent.world import NOW
from tests.provenance.authority import credential
from tests.release.desk import SPOKEN

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import read_provenance
from vivavoce.release import chunks
from vivavoce.release.chunks import ChunkMarker, MarkedChunk
from vivavoce.release.disclosure import disclosure
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.marking import Labels, Marked, decoded
from vivavoce.sound import FORMATS, SPEECH_RATE, Format, Samples, resample
from vivavoce.watermark import Marker

torch.set_num_threads(1)
LABELS = Labels(model_id="test-model", assurance="attested", created_at=NOW, disclosure=None)
SAID = replace(LABELS, disclosure="en")
WAVE = resample(SPOKEN.samples, SPOKEN.sample_rate, SPEECH_RATE)
LONG = np.tile(WAVE, 2)[: 9 * SPEECH_RATE // 2]


@pytest.fixture(scope="module")
def marker(keyring: KeyRing) -> Marker:
    return Marker.load(secret=keyring.mark_key)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.open(tmp_path_factory.mktemp("keys") / "ring", create=True)


def begin(marker: Marker, keyring: KeyRing, format: Format = "wav", labels: Labels = LABELS) -> ChunkMarker:  # noqa: A002
    return ChunkMarker(SPEECH_RATE, format, new_id("out"), marker=marker, keyring=keyring, labels=labels)


def spoken(stream: ChunkMarker, wave: Samples = LONG) -> tuple[list[MarkedChunk], list[float], Marked]:
    """Feed half a second at a time; returns the chunks, the seconds that were fed up to each, and the whole."""
    given, fed, count = [], [], 0
    for piece in np.array_split(wave, max(1, len(wave) * 2 // SPEECH_RATE)):
        count += len(piece)
        if (chunk := stream.feed(piece)) is not None:
            given.append(chunk)
            fed.append(count / SPEECH_RATE)
    marked, last = stream.finish(credential())
    return [*given, last], fed, marked


@pytest.mark.parametrize("format", FORMATS)
def test_chunks_join_to_one_marked_file_and_come_before_its_end(
    marker: Marker, keyring: KeyRing, format: Format  # noqa: A002
) -> None:  # fmt: skip
    stream = begin(marker, keyring, format)
    given, fed, marked = spoken(stream)
    assert fed[0] < 2.2 and len(given) >= 3
    assert [chunk.number for chunk in given] == list(range(len(given)))
    assert b"".join(chunk.data for chunk in given) == marked.data
    assert sum(chunk.seconds for chunk in given) == pytest.approx(len(LONG) / SPEECH_RATE, abs=0.01)
    assert (marked.identity, marked.identity_read) == (stream.identity, True)
    assert marked.si_snr_db > 10
    heard = decoded(marked.data, format)
    found = marker.detect(heard.samples, heard.sample_rate, search=False)
    assert (found.verdict, found.reason) == ("ours", "")
    assert found.reading is not None and marker.doubt(found.reading, stream.identity) < 1e-12
    # What is beside the file belongs to it, to the byte.
    roots = credential().roots
    assert read_provenance(marked.data, roots, marked.manifest).output_id == stream.output_id
    assert read_provenance(marked.data[:-1], roots, marked.manifest).state == "invalid"


def test_what_left_at_any_moment_carries_the_mark(marker: Marker, keyring: KeyRing) -> None:
    """A listener who goes away after any chunk holds a file that says whose it is."""
    stream = begin(marker, keyring, "mp3")
    given, _, _ = spoken(stream)
    for count in (1, 2):
        heard = decoded(b"".join(chunk.data for chunk in given[:count]), "mp3", unfinished=True)
        found = marker.detect(heard.samples, heard.sample_rate, search=False)
        assert found.reading is not None and marker.doubt(found.reading, stream.identity) <= 1e-6


def test_the_samples_are_those_of_a_sound_that_was_marked_as_a_whole(marker: Marker, keyring: KeyRing) -> None:
    stream = begin(marker, keyring, "pcm")
    _, _, marked = spoken(stream)
    whole = marker.embed(LONG, SPEECH_RATE, stream.identity, chunks.STREAM_STRENGTH)
    assert np.abs(whole).max() < 1
    np.testing.assert_allclose(decoded(marked.data, "pcm").samples, whole, atol=1e-4)


def test_a_disclosure_leaves_at_once_and_the_voice_behind_it_has_a_mark_of_its_own(
    marker: Marker, keyring: KeyRing
) -> None:
    stream = begin(marker, keyring, labels=SAID)
    first = stream.feed(np.zeros(0, dtype=np.float32))
    lead = len(disclosure("en", SPEECH_RATE)) / SPEECH_RATE
    assert first is not None and 0 < first.seconds < lead
    given, _, marked = spoken(stream)
    left = first.seconds
    for chunk in given:
        left += chunk.seconds
        voice = left - lead
        assert voice <= 0 or voice >= chunks.LEAST_VOICE_SECONDS
    heard = decoded(marked.data, "wav").samples[round(lead * SPEECH_RATE) :]
    found = marker.detect(heard, SPEECH_RATE, search=False)
    assert found.reading is not None and marker.doubt(found.reading, stream.identity) <= 1e-6


class Forgetful:
    """A marker whose mark is lost from some second on."""

    def __init__(self, marker: Marker, seconds: float) -> None:
        self._marker, self._left = marker, round(seconds * SPEECH_RATE)

    def stream(self, *asked: float) -> Forgetful:
        self._stream = self._marker.stream(*asked)  # type: ignore[arg-type]
        self._clean = np.zeros(0, dtype=np.float32)
        return self

    def feed(self, samples: Samples) -> Samples:
        return self._lost(samples, self._stream.feed(samples))

    def finish(self) -> Samples:
        return self._lost(np.zeros(0, dtype=np.float32), self._stream.finish())

    def _lost(self, clean: Samples, marked: Samples) -> Samples:
        self._clean = np.concatenate([self._clean, clean])
        same, self._clean = self._clean[: len(marked)], self._clean[len(marked) :]
        kept, self._left = min(self._left, len(marked)), max(0, self._left - len(marked))
        return np.concatenate([marked[:kept], same[kept:]])

    def __getattr__(self, name: str) -> object:
        return getattr(self._marker, name)


def test_a_mark_that_is_not_there_lets_nothing_leave(marker: Marker, keyring: KeyRing) -> None:
    stream = begin(Forgetful(marker, 0), keyring)  # type: ignore[arg-type]
    given: list[MarkedChunk | None] = []
    with pytest.raises(ReleaseRefused) as refused:
        given.extend(stream.feed(piece) for piece in np.array_split(LONG, 8))
        stream.finish(credential())
    assert refused.value.code == "mark_not_found"
    assert set(given) == {None}


def test_a_mark_that_is_lost_on_the_way_ends_the_stream(
    marker: Marker, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had left until then was marked; what may still have left is bounded by what is looked at."""
    monkeypatch.setattr(chunks, "LOOKED_AT", (1.0, 2.0))
    stream = begin(Forgetful(marker, 1.5), keyring)  # type: ignore[arg-type]
    given: list[MarkedChunk | None] = []
    with pytest.raises(ReleaseRefused) as refused:
        given.extend(stream.feed(piece) for piece in np.array_split(np.tile(WAVE, 4), 24))
        stream.finish(credential())
    assert refused.value.code == "mark_not_found"
    left = sum(chunk.seconds for chunk in given if chunk is not None)
    assert 0 < left <= 1.5 + 2.0


def test_a_mark_that_is_too_loud_is_not_borne(
    marker: Marker, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "STREAM_STRENGTH", 8.0)
    with pytest.raises(ReleaseRefused) as refused:
        spoken(begin(marker, keyring))
    assert refused.value.code == "mark_too_loud"


def test_no_sound_is_refused_and_so_is_who_makes_chunks_elsewhere(marker: Marker, keyring: KeyRing) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        begin(marker, keyring, labels=SAID).finish(credential())
    assert refused.value.code == "nothing_to_release"
    with pytest.raises(TypeError, match=r"made by vivavoce\.release alone"):
        MarkedChunk("out_1", 0, b"", 1.0, made_by=object())

"""Marking a sound as it comes gives what marking the whole gives."""

import numpy as np
import pytest

from vivavoce.sound import SPEECH_RATE, resample
from vivavoce.watermark import Marker, MarkError

IDENTITY = 0xABCD_EF01_2345


@pytest.mark.parametrize("rate", [16_000, SPEECH_RATE, 44_100])
@pytest.mark.parametrize("sizes", [[1], [240], [4_096], [7, 30_000, 0, 1_111]])
def test_chunks_equal_the_whole(marker: Marker, long_clip: np.ndarray, rate: int, sizes: list[int]) -> None:
    clip = resample(long_clip[: (2 if sizes == [1] else 12) * SPEECH_RATE], SPEECH_RATE, rate)
    clip = clip[:3_000] if sizes == [1] else clip
    stream = marker.stream(rate, IDENTITY)
    parts, at, turn = [], 0, 0
    while at < len(clip):
        parts.append(stream.feed(clip[at : at + sizes[turn % len(sizes)]]))
        at += sizes[turn % len(sizes)]
        turn += 1
    parts.append(stream.finish())
    whole = marker.stream(rate, IDENTITY, block=160_000)
    expected = np.concatenate([whole.feed(clip), whole.finish()])
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
    assert len(expected) == len(clip)


def test_sound_comes_out_before_the_end_went_in(marker: Marker, long_clip: np.ndarray) -> None:
    stream = marker.stream(SPEECH_RATE, IDENTITY)
    given = got = 0
    for at in range(0, 5 * SPEECH_RATE, 2_400):
        given += 2_400
        got += len(stream.feed(long_clip[at : at + 2_400]))
        assert given - got <= 1.3 * SPEECH_RATE
    assert got >= 3.7 * SPEECH_RATE


def test_a_stream_is_found_like_a_whole(marker: Marker, long_clip: np.ndarray) -> None:
    stream = marker.stream(SPEECH_RATE, IDENTITY)
    chunks = [stream.feed(chunk) for chunk in np.array_split(long_clip[: 8 * SPEECH_RATE], 30)]
    detection = marker.detect(np.concatenate([*chunks, stream.finish()]), SPEECH_RATE, search=False)
    assert detection.reading is not None
    assert marker.doubt(detection.reading, IDENTITY) < 1e-12


def test_bad_samples_are_refused_on_the_way(marker: Marker) -> None:
    stream = marker.stream(SPEECH_RATE, IDENTITY)
    stream.feed(np.zeros(100, dtype=np.float32))
    with pytest.raises(MarkError, match="finite"):
        stream.feed(np.full(10, np.inf, dtype=np.float32))


def test_an_empty_stream_is_empty(marker: Marker) -> None:
    assert len(marker.stream(SPEECH_RATE, IDENTITY).finish()) == 0

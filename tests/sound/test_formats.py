"""Writing: each format is read back as what was written, peaks never wrap, equal samples give equal bytes."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from vivavoce.sound import FORMATS, MEDIA_TYPES, SPEECH_RATE, SoundError, decode, encode, resample, tag

SPEECH = decode((Path(__file__).parents[1] / "data/speech/austen-0880.flac").read_bytes())
WAVE = resample(SPEECH.samples, SPEECH.sample_rate, SPEECH_RATE)
FILES = [name for name in FORMATS if name != "pcm"]
DELAY = {"aac": 1024}  # samples: ADTS has no field for the encoder's delay
BITS_PER_SECOND = {"mp3": 64_000, "opus": 32_000, "aac": 64_000}
LABELS = {"title": "Ein Satz, gesprochen", "software": "vivavoce", "generated": "yes", "output": "out_1"}


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    size = min(len(one), len(other))
    return float(np.corrcoef(one[:size], other[:size])[0, 1])


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_is_read_back(name: str) -> None:
    data = encode(WAVE, SPEECH_RATE, name)
    sound = decode(data)
    delay = DELAY.get(name, 0)
    assert sound.sample_rate == SPEECH_RATE
    assert len(WAVE) <= len(sound.samples) <= len(WAVE) + 2 * delay
    assert correlation(sound.samples[delay:], WAVE) > (0.99999 if name in ("wav", "flac") else 0.9)
    if name in BITS_PER_SECOND:
        assert len(data) * 8 / sound.seconds == pytest.approx(BITS_PER_SECOND[name], rel=0.15)


def test_pcm_is_16_bit_little_endian_at_24_khz() -> None:
    data = encode(SPEECH.samples, SPEECH.sample_rate, "pcm")
    samples = np.frombuffer(data, "<i2") / 32767
    assert abs(len(samples) - len(WAVE)) <= 1
    assert correlation(samples, WAVE) > 0.99999


def test_every_format_has_a_media_type() -> None:
    assert set(MEDIA_TYPES) == set(FORMATS)
    assert {kind.partition("/")[0] for kind in MEDIA_TYPES.values()} == {"audio"}


@pytest.mark.parametrize("name", FORMATS)
def test_equal_samples_give_equal_bytes(name: str) -> None:
    first, second = (tag(encode(WAVE, SPEECH_RATE, name), name, LABELS) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", FORMATS)
def test_peaks_are_turned_down_and_never_wrap(name: str) -> None:
    loud = 5 * WAVE / np.abs(WAVE).max()
    data = encode(loud, SPEECH_RATE, name)
    read = np.frombuffer(data, "<i2") / 32768 if name == "pcm" else decode(data).samples[DELAY.get(name, 0) :]
    assert np.abs(read).max() <= 1.25  # a lossy codec may overshoot, in float, by a little
    assert correlation(read, loud) > 0.9


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("samples", "code"), [([], "empty"), ([0.0, np.nan], "not_finite"), ([np.inf], "not_finite")])
def test_what_cannot_be_written_is_refused(name: str, samples: list[float], code: str) -> None:
    with pytest.raises(SoundError) as caught:
        encode(np.array(samples, dtype=np.float32), SPEECH_RATE, name)
    assert caught.value.code == code


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("length", [1, 2, 100, 1151])
def test_tiny_sounds_are_written_whole(name: str, length: int) -> None:
    data = encode(WAVE[20_000 : 20_000 + length], SPEECH_RATE, name)
    count = len(data) // 2 if name == "pcm" else len(decode(data).samples)
    assert count >= length


@pytest.mark.parametrize("name", FILES)
def test_labels_are_there_for_other_programs_and_leave_the_sound_alone(name: str) -> None:
    data = encode(WAVE, SPEECH_RATE, name)
    tagged = tag(data, name, LABELS)
    with av.open(io.BytesIO(tagged)) as file:
        read = {key.lower(): value for key, value in [*file.metadata.items(), *file.streams[0].metadata.items()]}
    assert read["title"] == LABELS["title"]
    assert read.get("output") == "out_1" or "output=out_1" in read["comment"]
    np.testing.assert_array_equal(decode(tagged).samples, decode(data).samples)


def test_pcm_has_no_place_for_labels() -> None:
    data = encode(WAVE, SPEECH_RATE, "pcm")
    assert tag(data, "pcm", LABELS) == data


def test_two_channels_are_mixed() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([WAVE, -WAVE / 2], axis=1), SPEECH_RATE, format="WAV", subtype="FLOAT")
    sound = decode(buffer.getvalue())
    assert sound.channels == 2
    np.testing.assert_allclose(sound.samples, WAVE / 4, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_sound(rate: int) -> None:
    there = resample(WAVE, SPEECH_RATE, rate)
    assert len(there) == pytest.approx(len(WAVE) * rate / SPEECH_RATE, abs=1)
    assert there.dtype == np.float32
    assert correlation(resample(there, rate, SPEECH_RATE), WAVE) > 0.97

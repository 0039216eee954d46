"""Promise 8 where sound is concerned: whatever bytes come in, they are a sound or a named refusal."""

import io
import struct
import time
import tracemalloc

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivavoce.sound import FORMATS, Sound, SoundError, decode, encode, require_speech, tag

RATE = 24_000
FILES = {name: name for name in FORMATS if name != "pcm"}


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def written(samples: np.ndarray, rate: int, **how: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **{"format": "WAV", **how})
    return buffer.getvalue()


def m4a(seconds: float = 1.0, channels: str = "mono") -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=RATE, layout=channels)
        count = stream.layout.nb_channels
        frame = av.AudioFrame.from_ndarray(np.tile(tone(seconds), (count, 1)), format="fltp", layout=channels)
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def refusal(data: bytes, **how: float) -> str:
    with pytest.raises(SoundError) as caught:
        decode(data, **how)
    assert caught.value.detail
    return caught.value.code


def test_no_bytes() -> None:
    assert refusal(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"Dear Sir or Madam, this is a letter and no sound at all. " * 50,
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(256)) * 20,
        b"%PDF-1.7\n" + b"x" * 5000,
        b"#EXTM3U\nhttp://127.0.0.1/secret.ts\n",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"OggS",
        b"fLaC" + b"\x00" * 100,
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        b"\xff\xfb" + b"\x00" * 1000,
        b"\x00\x00\x00\x18ftypM4A ",
        bytes(10_000),
    ],
    ids=[
        "text",
        "jpeg",
        "pdf",
        "playlist",
        "bare-wav",
        "bare-ogg",
        "bare-flac",
        "bare-id3",
        "bare-mp3",
        "bare-m4a",
        "zeros",
    ],
)
def test_other_things_are_no_audio(data: bytes) -> None:
    assert refusal(data) in {"not_audio", "truncated"}


def test_random_bytes_are_no_audio() -> None:
    data = np.random.default_rng(1).bytes(100_000)
    assert refusal(data) == "not_audio"


@pytest.mark.parametrize("name", [*FILES, "m4a"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_file_cut_short_is_told_so(name: str, share: float) -> None:
    data = m4a(2) if name == "m4a" else encode(tone(2), RATE, name)
    assert refusal(data[: int(len(data) * share)]) in {"truncated", "not_audio"}
    assert share < 0.9 or refusal(data[: int(len(data) * share)]) == "truncated"


def test_a_streamed_wav_without_a_stated_length_is_taken() -> None:
    data = bytearray(encode(tone(), RATE, "wav"))
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    assert decode(bytes(data)).seconds == 1.0


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_no_samples(form: str) -> None:
    assert refusal(written(np.zeros((0, 1), np.float32), RATE, format=form)) == "empty"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(bad: float) -> None:
    samples = tone()
    samples[777] = bad
    assert refusal(written(samples, RATE, subtype="FLOAT")) == "not_finite"
    assert refusal(written(samples, RATE, subtype="DOUBLE")) == "not_finite"


def test_doubles_beyond_float32_are_no_numbers() -> None:
    samples = tone().astype(np.float64)
    samples[5] = 1e300
    assert refusal(written(samples, RATE, subtype="DOUBLE")) == "not_finite"


def test_five_channels() -> None:
    assert refusal(written(np.tile(tone()[:, None], (1, 5)), RATE)) == "too_many_channels"
    assert refusal(written(np.tile(tone()[:, None], (1, 6)), RATE, format="FLAC")) == "too_many_channels"
    assert refusal(m4a(channels="5.1")) == "too_many_channels"


@pytest.mark.parametrize("rate", [1, 4_000, 7_999, 192_001, 384_000])
def test_sample_rates_nobody_speaks_at(rate: int) -> None:
    assert refusal(written(np.full(2000, 0.1, np.float32), rate)) == "bad_sample_rate"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3", "OGG"])
def test_one_second_too_long(form: str) -> None:
    data = written(tone(3), RATE, format=form)
    assert refusal(data, max_seconds=2.5) == "too_long"
    assert decode(data, max_seconds=3.2).seconds == pytest.approx(3, abs=0.1)


def test_hours_of_sound_are_refused_fast_and_in_little_memory() -> None:
    """By the header where there is one, else as soon as the limit is reached while decoding."""
    hours = encode(np.tile(tone(1), 60), RATE, "aac") * 60  # ADTS has no header: frames can be repeated
    wav = written(np.zeros(10, np.int16), 8_000, subtype="PCM_U8")[:44]
    count = 8 * 3600 * 8_000
    wav = wav[:4] + struct.pack("<I", 36 + count) + wav[8:40] + struct.pack("<I", count) + bytes(count)
    for data in (hours, wav):
        tracemalloc.start()
        began = time.monotonic()
        assert refusal(data, max_seconds=60) == "too_long"
        took, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < 20
        assert peak < 40e6  # a minute of float32 at 24 kHz is 6 MB; the file itself is not counted


def test_a_lying_header_does_not_get_past_the_limit() -> None:
    """A FLAC that holds three seconds and claims one, or a single sample."""
    for claim in (RATE, 1):
        data = bytearray(written(tone(3), RATE, format="FLAC"))
        stated = int.from_bytes(data[18:26], "big")
        data[18:26] = (stated >> 36 << 36 | claim).to_bytes(8, "big")
        try:
            assert decode(bytes(data), max_seconds=2).seconds <= 2
        except SoundError as error:
            assert error.code in {"too_long", "not_audio"}


def test_a_streamed_flac_without_a_stated_length_is_taken() -> None:
    data = bytearray(written(tone(3), RATE, format="FLAC"))
    data[18:26] = (int.from_bytes(data[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    np.testing.assert_allclose(decode(bytes(data)).samples, tone(3), atol=1e-4)
    assert refusal(bytes(data), max_seconds=2) == "too_long"


def test_silence_and_shortness_are_for_those_who_need_speech() -> None:
    silence = decode(encode(np.zeros(RATE, np.float32), RATE, "wav"))
    with pytest.raises(SoundError) as caught:
        require_speech(silence, 0.5)
    assert caught.value.code == "silent"
    with pytest.raises(SoundError) as caught:
        require_speech(decode(encode(tone(0.4), RATE, "wav")), 0.5)
    assert caught.value.code == "too_short"
    require_speech(decode(encode(tone(0.6), RATE, "wav")), 0.5)


def sound_or_refusal(data: bytes) -> None:
    """The one thing that holds for all bytes."""
    try:
        sound = decode(data, max_seconds=20)
    except SoundError:
        return
    assert isinstance(sound, Sound)
    assert sound.samples.dtype == np.float32
    assert sound.samples.ndim == 1
    assert np.isfinite(sound.samples).all()
    assert 0 < sound.seconds <= 20


WHOLE = {name: tag(encode(tone(0.3), RATE, name), name, {"title": "t"}) for name in FILES} | {"m4a": m4a(0.3)}
FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@FUZZ
@given(
    st.sampled_from([b"", b"RIFF....WAVE", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf1", b"....ftypM4A "]),
    st.binary(),
)
def test_any_bytes(head: bytes, rest: bytes) -> None:
    sound_or_refusal(head + rest)


@FUZZ
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_any_change_to_a_good_file(name: str, draw: st.DataObject) -> None:
    data = bytearray(WHOLE[name])
    head = st.integers(0, min(len(data), 120) - 1)
    for place in draw.draw(st.lists(head | st.integers(0, len(data) - 1), min_size=1, max_size=8)):
        data[place] = draw.draw(st.integers(0, 255))
    start = draw.draw(st.just(0) | st.integers(0, len(data)))
    end = draw.draw(st.just(len(data)) | st.integers(0, len(data)))
    sound_or_refusal(bytes(data[start:end]))


def test_a_wav_header_that_claims_everything() -> None:
    for rate in (0, 1, 2**32 - 1):
        for channels in (0, 1, 65_535):
            head = struct.pack(
                "<4sI4s4sIHHIIHH4sI", b"RIFF", 1000, b"WAVE", b"fmt ", 16, 1, channels, rate, 0, 2, 16, b"data", 100
            )
            sound_or_refusal(head + bytes(100))

"""Files written chunk by chunk: playable as they stand, and in the end what `encode` writes."""

from __future__ import annotations

import io

import mutagen
import numpy as np
import pytest
from mutagen.id3 import ID3
from tests.consent.world import SPEECH

from vivavoce.sound import FORMATS, SPEECH_RATE, Format, Samples, SoundError, TempoChanger, change_tempo, decode, encode
from vivavoce.sound import resample as resampled
from vivavoce.sound.chunked import ChunkEncoder

SPOKEN = decode((SPEECH / "austen-0880.flac").read_bytes())
WAVE = resampled(SPOKEN.samples, SPOKEN.sample_rate, SPEECH_RATE)
FIELDS = {"title": "AI-generated speech", "output": "out_1", "ai-generated": "true"}
DELAY = 1_200  # samples: an MP3 that states no delay of its encoder is heard with it (LAME: 1,105 samples)


def written(format: Format, wave: Samples = WAVE, chunks: int = 7) -> tuple[list[bytes], ChunkEncoder]:  # noqa: A002
    encoder = ChunkEncoder(SPEECH_RATE, format, FIELDS)
    return [*map(encoder.feed, np.array_split(wave, chunks)), encoder.finish()], encoder


def heard(data: bytes, format: Format, *, unfinished: bool = False) -> Samples:  # noqa: A002
    if format == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768
    sound = decode(data, unfinished=unfinished)
    return resampled(sound.samples, sound.sample_rate, SPEECH_RATE)


@pytest.mark.parametrize("format", FORMATS)
def test_chunks_are_the_file(format: Format) -> None:  # noqa: A002
    whole = heard(b"".join(written(format)[0]), format)
    plain = heard(encode(WAVE, SPEECH_RATE, format), format)
    if format == "mp3":
        shift = int(np.argmax(np.correlate(whole[:30_000], plain[:25_000], "valid")))
        assert 0 < shift < DELAY
        whole = whole[shift:]
    count = min(len(whole), len(plain))
    assert count > len(WAVE) - DELAY
    np.testing.assert_allclose(whole[:count], plain[:count], atol=0.02 if format == "mp3" else 1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_what_has_come_so_far_can_be_played(format: Format) -> None:  # noqa: A002
    """Also from the middle on, behind the header: what is looked at of a long stream."""
    chunks, encoder = written(format)
    seconds = len(WAVE) / SPEECH_RATE
    so_far = heard(b"".join(chunks[:4]), format, unfinished=True)
    assert len(so_far) / SPEECH_RATE == pytest.approx(seconds * 4 / 7, abs=0.4)
    tail = heard(encoder.header + b"".join(chunks[2:4]), format, unfinished=True)
    assert len(tail) / SPEECH_RATE == pytest.approx(seconds * 2 / 7, abs=0.4)
    np.testing.assert_allclose(tail[-6_000:], so_far[-6_000:], atol=0.01)  # AAC makes noise up


@pytest.mark.parametrize("format", [one for one in FORMATS if one != "pcm"])
def test_labels_are_in_the_first_bytes(format: Format) -> None:  # noqa: A002
    first = written(format)[0][0]
    if format in ("mp3", "aac"):
        tags = ID3(io.BytesIO(first))
        assert str(tags["TIT2"]) == FIELDS["title"] and str(tags["TXXX:output"]) == "out_1"
    elif format == "wav":
        assert b"AI-generated speech" in first and b"output=out_1" in first
    else:
        file = mutagen.File(io.BytesIO(first))
        assert file["title"] == [FIELDS["title"]] and file["output"] == ["out_1"]


def test_a_file_that_ends_too_early_is_refused_unless_more_is_to_come() -> None:
    part = b"".join(written("opus")[0][:3])
    with pytest.raises(SoundError, match="ends before"):
        decode(part)
    assert decode(part, unfinished=True).seconds > 0.5


def test_loud_sounds_are_turned_down_from_there_on_and_never_clipped() -> None:
    wave = np.concatenate([0.5 * WAVE, 3 * WAVE / np.abs(WAVE).max(), 0.5 * WAVE])
    made = heard(b"".join(written("wav", wave, 9)[0]), "wav")
    assert np.abs(made).max() == pytest.approx(0.999, abs=1e-3)
    np.testing.assert_allclose(made[: len(WAVE)], 0.5 * WAVE, atol=1e-4)


def test_another_rate_is_changed_on_the_way() -> None:
    encoder = ChunkEncoder(SPOKEN.sample_rate, "pcm", {})
    data = b"".join([*map(encoder.feed, np.array_split(SPOKEN.samples, 5)), encoder.finish()])
    plain = encode(SPOKEN.samples, SPOKEN.sample_rate, "pcm")
    np.testing.assert_allclose(heard(data, "pcm"), heard(plain, "pcm"), atol=1e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_number_is_refused(format: Format) -> None:  # noqa: A002
    encoder = ChunkEncoder(SPEECH_RATE, format, {})
    with pytest.raises(SoundError, match="NaN"):
        encoder.feed(np.full(10, np.nan, dtype=np.float32))


@pytest.mark.parametrize("speed", [0.3, 0.7, 2.0, 3.9])
def test_tempo_is_changed_alike_however_the_sound_is_cut(speed: float) -> None:
    changer = TempoChanger(SPEECH_RATE, speed)
    pieces = [*map(changer.feed, np.array_split(WAVE, 13)), changer.finish()]
    assert np.array_equal(np.concatenate(pieces), change_tempo(WAVE, SPEECH_RATE, speed))
    assert sum(len(piece) for piece in pieces[:-1]) > len(WAVE) / speed / 2

"""What happens to a sound after it left us: fixed edits, so that two runs can be compared.

An edit takes float32[n] at 24 kHz, and a generator that was seeded for the clip; it gives samples and their rate.
Training draws its own edits at random (`vivavoce.watermark.training.edits`); these here are never tuned to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.marks.codecs import Heard, coded, heard, written
from benchmarks.marks.resynthesis import from_mel, gated
from benchmarks.marks.rooms import in_room, room_response
from vivavoce.model.resynthesis import resynthesise
from vivavoce.model.training.filters import filtered
from vivavoce.sound import SPEECH_RATE, Format, Samples, encode, resample

RATE = SPEECH_RATE
TELEPHONE = 8_000  # Hz
FILTER_ORDER = 8  # Butterworth, 48 dB an octave
ECHO_SECONDS, ECHO_GAIN = 0.15, 0.4
VORBIS_LEVEL = 0.5  # of libsndfile: 48 kbit/s of speech at 24 kHz mono (measured)

Process = Callable[[Samples, np.random.Generator], Heard]
Row = Literal["easy", "hard", "warp", "open"]  # which row of the bar an edit belongs to


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        name: For tables and records.
        row: Row of the bar (`benchmarks.marks.bar`).
        process: What it does.
        lengths: Seconds of what is looked at: all 10 s, and cuts of the edited sound.
    """

    name: str
    row: Row
    process: Process
    lengths: tuple[int, ...] = (1, 3, 10)


def _at_rate(process: Callable[[Samples], Samples]) -> Process:
    return lambda samples, _: (process(samples), RATE)


def _file(form: Format) -> Process:
    return lambda samples, _: heard(encode(samples, RATE, form))


def _codec(muxer: str, codec: str, bits_per_second: int) -> Process:
    return lambda samples, _: coded(samples, RATE, muxer=muxer, codec=codec, bits_per_second=bits_per_second)


def _telephone(subtype: str) -> Process:
    return lambda samples, _: written(resample(samples, RATE, TELEPHONE), TELEPHONE, "WAV", subtype)


def _noise(snr_db: float) -> Process:
    def process(samples: Samples, rng: np.random.Generator) -> Heard:
        level = samples.std() * 10 ** (-snr_db / 20)
        return samples + (rng.standard_normal(len(samples)) * level).astype(np.float32), RATE

    return process


def _gain(db: float) -> Process:
    return _at_rate(lambda samples: (samples * np.float32(10 ** (db / 20))).clip(-1, 1))


def _echo(samples: Samples) -> Samples:
    late = int(ECHO_SECONDS * RATE)
    return samples + np.float32(ECHO_GAIN) * np.pad(samples, (late, 0))[: len(samples)]


def passed(samples: Samples, *, above: float = 0.0, below: float = float("inf")) -> Samples:
    """A Butterworth filter's magnitude without its phase, between two frequencies in Hz."""
    frequencies = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 1e-3)
    response = 1 / np.sqrt(1 + (frequencies / below) ** (2 * FILTER_ORDER))
    response /= np.sqrt(1 + (above / frequencies) ** (2 * FILTER_ORDER))
    return np.fft.irfft(np.fft.rfft(samples) * response, len(samples)).astype(np.float32)


def _reverb(samples: Samples, rng: np.random.Generator) -> Heard:
    return in_room(samples, room_response(RATE, rng)), RATE


def played(samples: Samples, factor: float) -> Samples:
    """Played `factor` times as fast, as a record would be: shorter and higher above 1."""
    return resample(samples, round(RATE * factor), RATE)


def stretched(samples: Samples, tempo: float) -> Samples:
    """`tempo` times as fast at the same pitch, by overlapping similar pieces (WSOLA: FFmpeg's atempo)."""
    return filtered(samples, RATE, "atempo", f"{tempo:.6f}")


def _pitched(semitones: float) -> Process:
    factor = 2 ** (semitones / 12)
    return _at_rate(lambda samples: stretched(played(samples, factor), 1 / factor))


def _cropped(seconds: float) -> Process:
    """A piece from a random place."""

    def process(samples: Samples, rng: np.random.Generator) -> Heard:
        size = int(seconds * RATE)
        start = int(rng.integers(0, len(samples) - size + 1))
        return samples[start : start + size], RATE

    return process


EDITS: tuple[Edit, ...] = (
    Edit("none", "easy", _at_rate(lambda samples: samples)),
    Edit("WAV", "easy", _file("wav")),
    Edit("FLAC", "easy", _file("flac")),
    Edit("MP3 64 kbit/s", "easy", _file("mp3")),
    Edit("MP3 32 kbit/s", "easy", _codec("mp3", "libmp3lame", 32_000)),
    Edit("AAC 64 kbit/s", "easy", _file("aac")),
    Edit("Opus 32 kbit/s", "easy", _file("opus")),
    Edit("Opus 16 kbit/s", "easy", _codec("ogg", "libopus", 16_000)),
    Edit("Vorbis 48 kbit/s", "easy", lambda samples, _: written(samples, RATE, "OGG", "VORBIS", VORBIS_LEVEL)),
    Edit("mu-law 8 kHz", "easy", _telephone("ULAW")),
    Edit("resampled to 8 kHz", "easy", _at_rate(lambda s: resample(resample(s, RATE, TELEPHONE), TELEPHONE, RATE))),
    Edit("noise 30 dB", "easy", _noise(30)),
    Edit("noise 20 dB", "easy", _noise(20)),
    Edit("gain -12 dB", "easy", _gain(-12)),
    Edit("gain +6 dB, clipped", "easy", _gain(6)),
    Edit("polarity", "easy", _at_rate(lambda samples: -samples)),
    Edit("echo", "easy", _at_rate(_echo)),
    Edit("low-pass 3.5 kHz", "easy", _at_rate(lambda samples: passed(samples, below=3_500))),
    Edit("high-pass 500 Hz", "easy", _at_rate(lambda samples: passed(samples, above=500))),
    Edit("high-pass 1.5 kHz", "hard", _at_rate(lambda samples: passed(samples, above=1_500))),
    Edit("GSM 8 kHz", "hard", _telephone("GSM610")),
    Edit("noise 10 dB", "hard", _noise(10)),
    Edit("crop to 1 s", "hard", _cropped(1), lengths=(10,)),
    Edit("room reverb", "hard", _reverb),
    Edit("speed 1.05", "warp", _at_rate(lambda samples: played(samples, 1.05))),
    Edit("speed 0.95", "warp", _at_rate(lambda samples: played(samples, 0.95))),
    Edit("speed 1.25", "warp", _at_rate(lambda samples: played(samples, 1.25))),
    Edit("speed 0.80", "warp", _at_rate(lambda samples: played(samples, 0.8))),
    Edit("stretch to 110 %", "warp", _at_rate(lambda samples: stretched(samples, 1 / 1.1))),
    Edit("stretch to 90 %", "warp", _at_rate(lambda samples: stretched(samples, 1 / 0.9))),
    Edit("pitch +1 semitone", "warp", _pitched(1)),
    Edit("pitch -1 semitone", "warp", _pitched(-1)),
    Edit("crop to 50 %", "open", _cropped(5), lengths=(10,)),
    Edit("denoise, FFT", "open", _at_rate(lambda samples: filtered(samples, RATE, "afftdn", "nr=20:nf=-40"))),
    Edit("denoise, gate", "open", _at_rate(gated)),
    Edit("our tokenizer", "open", _at_rate(lambda samples: resynthesise(samples, RATE))),
    Edit("mel, Griffin-Lim", "open", lambda samples, rng: (from_mel(samples, RATE, rng), RATE)),
)

"""What happens to a file after it leaves us, made learnable.

Differentiable where that is easy; lossy codecs by the straight-through estimator (Bengio et al., 2013): forward the
coded wave, backward as if nothing had happened.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vivavoce.sound import decode
from vivavoce.watermark.networks import SAMPLE_RATE

MOST_SHIFT = SAMPLE_RATE // 10  # samples: 100 ms

Edit = Callable[[Tensor, np.random.Generator], Tensor]

# libsndfile takes a level instead of a bit rate. Measured at 16 kHz mono: MP3 0.0 -> 170, 0.5 -> 85, 0.8 -> 42 kbit/s;
# Opus is linear from 256 (0.0) to 6 kbit/s (1.0).
MP3_LEVELS = (0.4, 0.8)
OPUS_LEVELS = (0.84, 0.92)  # 46 to 26 kbit/s


def nothing(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """The wave as it is."""
    return waves


def noise(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """White noise, 15 to 40 dB below the wave."""
    white = torch.from_numpy(rng.standard_normal(waves.shape).astype(np.float32))
    level = waves.detach().std(dim=-1, keepdim=True) * 10 ** (-rng.uniform(15, 40) / 20)
    return waves + white * level


def gain(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """-20 to +10 dB, clipped at full scale."""
    return (waves * 10 ** (rng.uniform(-20, 10) / 20)).clamp(-1, 1)


def polarity(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """Turned upside down."""
    return -waves


def low_pass(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """A windowed-sinc low-pass at 3 to 7.5 kHz."""
    taps = np.arange(-32, 33)
    cutoff = rng.uniform(3_000, 7_500) / SAMPLE_RATE
    kernel = 2 * cutoff * np.sinc(2 * cutoff * taps) * np.hamming(len(taps))
    weight = torch.from_numpy((kernel / kernel.sum()).astype(np.float32)).reshape(1, 1, -1)
    return functional.conv1d(waves.unsqueeze(1), weight, padding=32).squeeze(1)


def _straight_through(waves: Tensor, process: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Tensor:
    """Run `process` over all waves in one piece (a codec's start-up is paid once); gradients pass unchanged."""
    flat = waves.detach().reshape(-1).numpy()
    edited = process(flat)
    edited = np.pad(edited[: len(flat)], (0, max(0, len(flat) - len(edited))))
    return waves + (torch.from_numpy(edited).reshape(waves.shape) - waves).detach()


def _coded(flat: NDArray[np.float32], container: str, subtype: str, level: float) -> NDArray[np.float32]:
    buffer = io.BytesIO()
    soundfile.write(buffer, flat.clip(-1, 1), SAMPLE_RATE, format=container, subtype=subtype, compression_level=level)
    buffer.seek(0)
    return np.asarray(soundfile.read(buffer, dtype="float32")[0])


def mp3(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """MP3 at about 40 to 100 kbit/s."""
    level = float(rng.uniform(*MP3_LEVELS))
    return _straight_through(waves, lambda flat: _coded(flat, "MP3", "MPEG_LAYER_III", level))


def opus(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Opus at 26 to 46 kbit/s."""
    level = float(rng.uniform(*OPUS_LEVELS))
    return _straight_through(waves, lambda flat: _coded(flat, "OGG", "OPUS", level))


def aac(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """AAC at 48 to 96 kbit/s and 24 kHz, shifted back by the delay that ADTS cannot state."""
    rate, delay = 24_000, 1024  # Hz, samples
    bits_per_second = int(rng.integers(48_000, 96_000))

    def process(flat: NDArray[np.float32]) -> NDArray[np.float32]:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="adts") as file:
            stream = file.add_stream("aac", rate=rate)
            if not isinstance(stream, av.AudioStream):
                raise TypeError("aac is no audio codec")
            stream.layout, stream.bit_rate = "mono", bits_per_second
            wave = np.asarray(soxr.resample(flat.clip(-1, 1), SAMPLE_RATE, rate), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="fltp", layout="mono")
            frame.sample_rate = rate
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        heard = decode(buffer.getvalue()).samples[delay:]
        return np.asarray(soxr.resample(heard, rate, SAMPLE_RATE), dtype=np.float32)

    return _straight_through(waves, process)


def resample(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Down to 8 or 11.025 kHz (or up to 24 kHz) and back."""
    rate = int(rng.choice([8_000, 11_025, 24_000]))
    return _straight_through(
        waves, lambda flat: soxr.resample(soxr.resample(flat, SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    )


# One entry for each chance: lossy codecs are what every served file goes through.
EDITS: tuple[Edit, ...] = (nothing, nothing, noise, gain, polarity, low_pass, mp3, mp3, opus, opus, aac, aac, resample)


def crop(waves: Tensor, present: Tensor, shifts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Cut `shifts[row]` samples off the front of each row, and as much off the ends that all rows stay equally long.

    Args:
        waves: float32[batch, samples].
        present: float32[batch, samples], 1 where the mark is.
        shifts: int64[batch], each below `MOST_SHIFT`.

    Returns:
        Both as float32[batch, samples - max(shifts)].
    """
    length = waves.shape[-1] - int(shifts.max())
    rows = list(enumerate(shifts.tolist()))
    return (
        torch.stack([waves[row, start : start + length] for row, start in rows]),
        torch.stack([present[row, start : start + length] for row, start in rows]),
    )

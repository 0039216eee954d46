"""Lossy codecs, and other people's processing, in the training loop.

By the straight-through estimator (Bengio et al., 2013): forward the processed wave, backward as if nothing had
happened. Everything here runs on the CPU and keeps the sound where it was: codecs' own delays are taken out.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from vivavoce.sound import decode
from vivavoce.sound.lossy import compress  # door: training hears these files and keeps none
from vivavoce.watermark.networks import SAMPLE_RATE

FILE_RATE = 24_000  # Hz: what lossy files are written at
PHONE_RATE = 8_000  # Hz

Wave = NDArray[np.float32]


def straight_through(waves: Tensor, process: Callable[[Wave], Wave]) -> Tensor:
    """Run `process` over all waves in one piece (a codec's start-up is paid once); gradients pass unchanged.

    Args:
        waves: float32[batch, samples].
        process: float32[samples] to about as many.
    """
    flat = waves.detach().cpu().reshape(-1).numpy()
    heard = process(flat)
    heard = np.pad(heard[: len(flat)], (0, max(0, len(flat) - len(heard))))
    coded = torch.from_numpy(heard.astype(np.float32)).reshape(waves.shape).to(waves.device)
    return waves + (coded - waves).detach()


def mp3(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """MP3 at 24 to 96 kbit/s."""
    bits_per_second = int(rng.integers(24_000, 96_000))
    return straight_through(waves, lambda flat: _file(flat, "mp3", "libmp3lame", bits_per_second, delay=0))


def opus(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Opus at 14 to 48 kbit/s."""
    bits_per_second = int(rng.integers(14_000, 48_000))
    return straight_through(waves, lambda flat: _file(flat, "ogg", "libopus", bits_per_second, delay=0))


def aac(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """AAC at 32 to 96 kbit/s."""
    bits_per_second = int(rng.integers(32_000, 96_000))
    return straight_through(waves, lambda flat: _file(flat, "adts", "aac", bits_per_second, delay=1024))


def vorbis(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Vorbis at about 35 to 60 kbit/s (libsndfile takes a level instead of a bit rate)."""
    level = float(rng.uniform(0.3, 0.9))
    return straight_through(
        waves, lambda flat: _at_rate(flat, FILE_RATE, lambda wave: _written(wave, FILE_RATE, "OGG", "VORBIS", level))
    )


def gsm(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """GSM 06.10 full rate at 8 kHz: a mobile phone of 1991."""
    return _phoned(waves, "GSM610")


def mu_law(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """G.711 mu-law at 8 kHz: a telephone line."""
    return _phoned(waves, "ULAW")


def resample(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Down to 8, 11.025 or 12 kHz (or up to 24 kHz) and back."""
    rate = int(rng.choice([8_000, 11_025, 12_000, 24_000]))
    return straight_through(waves, lambda flat: _at_rate(flat, rate, lambda wave: wave))


def named(name: str) -> Callable[[Tensor, np.random.Generator], Tensor]:
    """An edit from outside: `package.module:function`.

    The function takes float32[samples] at 16 kHz and the rate, and gives back as many samples at that rate, where they
    were in time.

    Raises:
        ValueError: `name` is no such name, or names no function that is there.
    """
    module, _, function = name.partition(":")
    try:
        process = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name!r} names no function (package.module:function): {error}") from error

    def edit(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
        return straight_through(waves, lambda flat: process(flat, SAMPLE_RATE))

    return edit


def _phoned(waves: Tensor, subtype: str) -> Tensor:
    return straight_through(
        waves, lambda flat: _at_rate(flat, PHONE_RATE, lambda wave: _written(wave, PHONE_RATE, "WAV", subtype, None))
    )


def _at_rate(flat: Wave, rate: int, process: Callable[[Wave], Wave]) -> Wave:
    wave = np.asarray(soxr.resample(flat, SAMPLE_RATE, rate), dtype=np.float32).clip(-1, 1)
    return np.asarray(soxr.resample(process(wave), rate, SAMPLE_RATE), dtype=np.float32)


def _written(wave: Wave, rate: int, container: str, subtype: str, level: float | None) -> Wave:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=container, subtype=subtype, compression_level=level)
    buffer.seek(0)
    return np.asarray(soundfile.read(buffer, dtype="float32")[0])


def _file(flat: Wave, muxer: str, codec: str, bits_per_second: int, *, delay: int) -> Wave:
    """Through one of FFmpeg's encoders; `delay` are samples at `FILE_RATE` by which its files come out late."""

    def process(wave: Wave) -> Wave:
        # door: training hears these files and keeps none
        data = compress(wave, FILE_RATE, muxer=muxer, codec=codec, bits_per_second=bits_per_second)
        return decode(data).samples[delay:]

    return _at_rate(flat, FILE_RATE, process)

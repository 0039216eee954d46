"""Edits that move the sound in time or pitch; differentiable.

Each returns the wave and its pace: how many samples of the old wave go into one of the new.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST = 1.25  # times as fast; as slow at most
SEMITONES = 2.0
SIZE, HOP = 512, 128  # samples of the phase vocoder's windows and steps
EVEN = 64  # lengths are multiples of this, which Fourier transforms are quick at


def speed(waves: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Played 0.8 to 1.25 times as fast, pitch and all."""
    return resampled(waves, _factor(rng))


def stretch(waves: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Spoken 0.8 to 1.25 times as fast, at the same pitch."""
    return stretched(waves, _factor(rng))


def pitch(waves: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Up to two semitones higher or lower, at the same pace."""
    factor = float(2 ** (rng.uniform(-SEMITONES, SEMITONES) / 12))
    slower, first = stretched(waves, 1 / factor)
    shifted, second = resampled(slower, factor)
    return shifted, first * second


def resampled(waves: Tensor, factor: float) -> tuple[Tensor, float]:
    """`factor` times as fast, by cutting or padding the spectrum of the whole wave (which it takes to be a circle).

    Args:
        waves: float32[batch, samples].
        factor: Above 1 is shorter.

    Returns:
        float32[batch, about samples / factor] and the exact pace.
    """
    samples = waves.shape[-1]
    wanted = round(samples / factor / EVEN) * EVEN
    spectrum = torch.fft.rfft(waves)[:, : wanted // 2 + 1]
    return torch.fft.irfft(spectrum * (wanted / samples), n=wanted), samples / wanted


def stretched(waves: Tensor, factor: float) -> tuple[Tensor, float]:
    """`factor` times as fast by a phase vocoder (Flanagan and Golden, 1966). Arguments and result as `resampled`.

    Forward it is the usual one; backward the phases' turns are constants.
    """
    window = torch.hann_window(SIZE, device=waves.device)
    spectrum = torch.stft(waves, SIZE, HOP, window=window, return_complex=True)
    place = torch.arange(0, spectrum.shape[-1] - 1, factor, device=waves.device)
    left = place.long()
    share = place - left
    before, after = spectrum[..., left], spectrum[..., left + 1]
    with torch.no_grad():
        expected = 2 * torch.pi * HOP / SIZE * torch.arange(SIZE // 2 + 1, device=waves.device).unsqueeze(1)
        turn = after.angle() - before.angle() - expected
        turn = turn - 2 * torch.pi * (turn / (2 * torch.pi)).round() + expected
        phase = torch.cat([spectrum[..., :1].angle(), turn[..., :-1]], dim=-1).cumsum(dim=-1)
        turns_before = torch.polar(1 - share, phase - before.angle())
        turns_after = torch.polar(share.expand_as(phase), phase - after.angle())
    made = before * turns_before + after * turns_after
    samples = round(waves.shape[-1] / factor / EVEN) * EVEN
    return torch.istft(made, SIZE, HOP, window=window, length=samples), factor


def _factor(rng: np.random.Generator) -> float:
    return float(MOST ** rng.uniform(-1, 1))

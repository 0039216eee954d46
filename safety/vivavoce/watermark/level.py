"""How loud the mark is: it follows the speech, a fixed number of decibels below it, 20 ms by 20 ms.

Setting the level outside the networks (instead of by a loss weight) makes the training's curriculum a plain
number, and the same number is the strength that an operator or the release ladder turns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

HOP = 160  # samples: 10 ms at 16 kHz
WINDOW = 640  # samples: 40 ms, short enough that the mark does not ring on into a pause
FLOOR = 1e-3  # full scale 1.0; speech below -60 dBFS counts as this loud


def loudness(wave: Tensor) -> Tensor:
    """Root mean square of the 40 ms around each sample.

    Args:
        wave: float32[batch, samples].

    Returns:
        float32[batch, samples], never below 1e-6.
    """
    samples = wave.shape[-1]
    padded = functional.pad(wave.square(), (0, -samples % HOP))
    power = functional.avg_pool1d(
        padded.unsqueeze(1), WINDOW, HOP, padding=(WINDOW - HOP) // 2, count_include_pad=False
    )
    smooth = functional.interpolate(power, size=padded.shape[-1], mode="linear", align_corners=False)
    return (smooth[:, 0, :samples] + 1e-12).sqrt()


def set_level(mark: Tensor, wave: Tensor, snr_db: Tensor | float) -> Tensor:
    """Scale a raw mark to `snr_db` below the speech around it.

    Args:
        mark: float32[batch, samples] from the generator.
        wave: float32[batch, samples], the speech it will be added to.
        snr_db: Decibels of speech over mark; a number, or float32[batch].

    Returns:
        float32[batch, samples] to be added to `wave`.
    """
    ratio = torch.as_tensor(snr_db, dtype=wave.dtype, device=wave.device).reshape(-1, 1)
    speech = loudness(wave).square().add(FLOOR**2).sqrt()
    return mark / loudness(mark) * speech * 10 ** (-ratio / 20)

"""How loud the mark is: a fixed number of decibels below the speech at each moment, and spread over its bands.

Setting the level outside the networks (instead of by a loss weight) makes the training's curriculum a plain number,
and the same number is the strength that an operator or the release ladder turns. Following the speech band by band is
what hides the mark: at the same 20 dB, a mark that follows the loudness alone is heard as a hiss between the formants
(PESQ-WB 2.3 instead of 4.2). It follows by less than a decibel for a decibel (`FOLLOW`): what weak bands carry costs
little of the whole, and is heard no better than what strong ones carry.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE = 16_000  # Hz: the rate that both networks live at
HOP = 160  # samples: 10 ms at 16 kHz
WINDOW = 640  # samples: 40 ms, short enough that the mark does not ring on into a pause
FLOOR = 1e-3  # full scale 1.0; speech below -60 dBFS counts as this loud
SIZE = 512  # samples of the short-time spectrum that the bands are taken from: 32 ms
BANDS = 40  # 0.85 equivalent rectangular bandwidths apart, up to 8 kHz
FOLLOW = 0.7  # decibels by which the mark follows a band of the speech for each decibel of that band
WEAKEST = 1e-4  # power of a mark's band, the mark's mean being 1, below which it is not lifted to the speech's any more


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


def whitened(wave: Tensor) -> Tensor:
    """A wave at unit loudness in each band and moment: what both networks hear, so that no band drowns another.

    Context: as `set_level`.

    Args:
        wave: float32[batch, samples].

    Returns:
        float32[batch, samples].
    """
    window, bands = _window(wave.device), _bands(wave.device)
    spectrum = _spectrum(wave, window)
    unit = window.square().sum()  # power of a bin of white noise at unit loudness
    return _scaled(spectrum, (unit / _power(spectrum, bands, FLOOR**2)).sqrt(), wave.shape[-1])


def set_level(mark: Tensor, wave: Tensor, snr_db: Tensor | float) -> Tensor:
    """Scale a raw mark to `snr_db` below the speech around it, following its bands.

    What comes out for a sample depends on less than 100 ms on either side of it, and on where it lies between
    multiples of `HOP`: blocks that begin at such multiples, with that much context, give what the whole gives.

    Args:
        mark: float32[batch, samples] from the generator.
        wave: float32[batch, samples], the speech it will be added to.
        snr_db: Decibels of speech over mark; a number, or float32[batch].

    Returns:
        float32[batch, samples] to be added to `wave`.
    """
    ratio = torch.as_tensor(snr_db, dtype=wave.dtype, device=wave.device).reshape(-1, 1, 1)
    window, bands = _window(wave.device), _bands(wave.device)
    spectrum = _spectrum(mark / loudness(mark), window)
    theirs = _power(_spectrum(wave, window), bands, FLOOR**2)
    width = (bands > 0).to(theirs.dtype).sum(dim=1).reshape(-1, 1)  # bins
    wanted = theirs**FOLLOW
    wanted = wanted * ((theirs * width).sum(dim=1, keepdim=True) / (wanted * width).sum(dim=1, keepdim=True))
    gain = (wanted / _power(spectrum, bands, WEAKEST)).sqrt() * 10 ** (-ratio / 20)
    return _scaled(spectrum, gain, wave.shape[-1])


def _power(spectrum: Tensor, bands: Tensor, floor: float) -> Tensor:
    """Power in each band, float32[batch, BANDS, frames], with that of white noise at the power `floor` added."""
    return bands @ spectrum.abs().square() + floor * _window(bands.device).square().sum()


def _scaled(spectrum: Tensor, gain: Tensor, samples: int) -> Tensor:
    """The wave of a spectrum whose bands are multiplied by a gain each."""
    bands, window = _bands(gain.device), _window(gain.device)
    each = bands.T @ gain / bands.sum(dim=0).unsqueeze(1)
    return torch.istft(spectrum * each, SIZE, HOP, window=window, length=samples)


def _spectrum(wave: Tensor, window: Tensor) -> Tensor:
    return torch.stft(wave, SIZE, HOP, window=window, pad_mode="constant", return_complex=True)


# Kept tensors must be ordinary ones, whoever asks first: training cannot use what was made in inference mode.
@cache
@torch.inference_mode(mode=False)
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(SIZE, device=device)


@cache
@torch.inference_mode(mode=False)
def _bands(device: torch.device) -> Tensor:
    """float32[BANDS, bins]: means over triangles, each beginning and ending at its neighbours' middles."""
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, SIZE // 2 + 1, device=device)
    place = torch.log1p(frequencies * 0.00437)  # equivalent rectangular bandwidths (Glasberg and Moore, 1990)
    distance = place / place[-1] * (BANDS - 1) - torch.arange(BANDS, device=device).unsqueeze(1)
    triangles = (1 - distance.abs()).clamp(min=0)
    return triangles / triangles.sum(dim=1, keepdim=True)

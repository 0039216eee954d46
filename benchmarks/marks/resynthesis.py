"""Sounds made anew from less than the wave: from a mel spectrogram, and by a gate against noise."""

from __future__ import annotations

import numpy as np
import torch

from vivavoce.model.audio import mel_transform
from vivavoce.sound import Samples

MEL_FFT, MEL_HOP, MELS = 1024, 256, 80  # samples, samples, bands: what HiFi-GAN and its kin are fed with
GRIFFIN_LIM_STEPS = 32
GATE_FFT, GATE_HOP = 1024, 256  # samples
GATE_FLOOR = 0.1  # quantile of a bin's magnitudes that is taken for its noise
GATE_DB = (6.0, -18.0)  # what is no more than 6 dB above the noise is turned down by 18 dB


def from_mel(samples: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """An 80-band mel spectrogram made audible again, with nothing else of the wave.

    Magnitudes come from the bands by the pseudo-inverse, phases from random ones by Griffin and Lim (1984).
    """
    mel = mel_transform(rate=rate, nfft=MEL_FFT, window=MEL_FFT, hop=MEL_HOP, n_mels=MELS)
    bands = mel.mel_scale.fb.T  # type: ignore[union-attr]
    magnitude = (torch.linalg.pinv(bands) @ mel(torch.from_numpy(samples))).clamp(min=0)
    window = torch.hann_window(MEL_FFT)
    phase = torch.from_numpy(rng.uniform(-np.pi, np.pi, magnitude.shape).astype(np.float32))
    for _ in range(GRIFFIN_LIM_STEPS):
        wave = torch.istft(torch.polar(magnitude, phase), MEL_FFT, MEL_HOP, window=window, length=len(samples))
        phase = torch.stft(wave, MEL_FFT, MEL_HOP, window=window, return_complex=True).angle()
    wave = torch.istft(torch.polar(magnitude, phase), MEL_FFT, MEL_HOP, window=window, length=len(samples))
    return np.asarray(wave.numpy())


def gated(samples: Samples) -> Samples:
    """Spectral gating: each bin is turned down where it does not stand out of its own quiet moments."""
    window = torch.hann_window(GATE_FFT)
    spectrum = torch.stft(torch.from_numpy(samples), GATE_FFT, GATE_HOP, window=window, return_complex=True)
    magnitude = spectrum.abs()
    noise = magnitude.quantile(GATE_FLOOR, dim=1, keepdim=True)
    opened = (magnitude > noise * 10 ** (GATE_DB[0] / 20)).float()
    smooth = torch.nn.functional.avg_pool2d(opened[None], (3, 5), stride=1, padding=(1, 2))[0]
    closed = 10 ** (GATE_DB[1] / 20)
    gain = closed + (1 - closed) * smooth
    return np.asarray(torch.istft(spectrum * gain, GATE_FFT, GATE_HOP, window=window, length=len(samples)).numpy())

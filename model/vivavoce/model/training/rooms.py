"""Rough recordings out of clean ones: a room and its noise, so that a reference need not come from a studio.

The room is noise that decays exponentially (Polack 1988) behind the direct sound; the noise falls by 3 dB an octave, as
that of streets and fans does about.
"""

from __future__ import annotations

import numpy as np

from vivavoce.model.training.filters import Samples

RT60 = (0.15, 0.7)  # seconds until the room has fallen by 60 dB
DIRECT_DB = (-3.0, 12.0)  # direct sound over the room
NOISE_DB = (8.0, 30.0)  # speech over noise
LOWEST = 50.0  # Hz, below which the noise rises no more


def rough(wave: Samples, rate: int, random: np.random.Generator) -> Samples:
    """float32[n] as a microphone in some room hears it, at the same time and as loud as before."""
    level = float(np.sqrt(np.mean(np.square(wave))))
    response = _response(rate, random)
    size = len(wave) + len(response) - 1
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)[: len(wave)]
    noise = _noise(len(wave), rate, random)
    scale = float(np.sqrt(np.mean(np.square(wet)))) / 10 ** (random.uniform(*NOISE_DB) / 20)
    heard = wet + scale * noise
    return (heard * level / max(float(np.sqrt(np.mean(np.square(heard)))), 1e-9)).astype(np.float32)


def _response(rate: int, random: np.random.Generator) -> Samples:
    """The direct sound, 1 at once, and the room behind it."""
    seconds = random.uniform(*RT60)
    time = np.arange(1, round(seconds * rate)) / rate
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    energy = 10 ** (-random.uniform(*DIRECT_DB) / 10)
    return np.concatenate(([1.0], tail * np.sqrt(energy / np.square(tail).sum())))


def _noise(samples: int, rate: int, random: np.random.Generator) -> Samples:
    """Noise float64[samples] of root mean square 1."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, LOWEST)), samples)
    return np.asarray(noise / np.sqrt(np.mean(np.square(noise))))

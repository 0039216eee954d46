"""A sound drawn as a spectrogram, and the parts of it that carry the mark as a strip below."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vivavoce.sound import Samples

WIDTH, HEIGHT = 1000, 256
_WINDOW = 1024
_FLOOR_DB = -90.0
# Dark to bright, evenly in lightness, so that it reads in grey and for the colour-blind too.
_COLOURS = np.array([[0, 0, 8], [62, 15, 94], [145, 40, 115], [224, 84, 78], [252, 170, 72], [252, 253, 220]])


def spectrogram_png(samples: Samples) -> bytes:
    """Draw float32[samples], mono: time to the right, frequency from 0 to half the sample rate upwards, in dB."""
    loud = np.clip(_levels(samples) / _FLOOR_DB, 0.0, 1.0)
    place = (1.0 - loud) * (len(_COLOURS) - 1)
    below = np.minimum(place.astype(int), len(_COLOURS) - 2)
    part = (place - below)[..., np.newaxis]
    pixels = _COLOURS[below] * (1 - part) + _COLOURS[below + 1] * part
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", optimize=False)
    return file.getvalue()


def _levels(samples: Samples) -> NDArray[np.float64]:
    """Give float64[HEIGHT, WIDTH] in dB below the loudest place, high frequencies first."""
    padded = np.pad(samples, _WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - _WINDOW), WIDTH).astype(int)
    frames = padded[starts[:, np.newaxis] + np.arange(_WINDOW)] * np.hanning(_WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))[:, 1:]
    rows = power.reshape(WIDTH, HEIGHT, -1).mean(axis=2).T[::-1]
    return np.asarray(10 * np.log10(rows / max(float(rows.max()), 1e-12) + 1e-12), dtype=np.float64)

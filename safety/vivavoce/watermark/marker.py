"""The mark put into a sound, and found again.

Sounds of any sample rate come in; the mark is made and looked for at 16 kHz. Only the mark is brought back to the
sound's own rate and added, so that everything above 8 kHz stays as it was. Long sounds go through in blocks with
enough overlap that the blocks cannot be told from the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vivavoce.sound import MIN_MARKED_SECONDS
from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.level import HOP, set_level
from vivavoce.watermark.networks import SAMPLE_RATE
from vivavoce.watermark.reading import FRAME_SECONDS, Detection, read
from vivavoce.watermark.weights import SHIPPED, load

Samples = NDArray[np.float32]

SILENCE = 1e-3  # peak, full scale 1.0 (-60 dBFS): a mark that follows the speech has nothing to follow here
# A vocoder leaves traces with a period of its own, which at some offsets from the networks' hop look like the mark. The
# true mark is seen at any offset, so presence is the mean over five of them, no two a multiple of a stride apart.
OFFSETS = (0, 61, 127, 190, 254)  # samples
BLOCK = 10 * SAMPLE_RATE  # samples
BEFORE = SAMPLE_RATE  # samples of context; more than the causal networks look back
AFTER = SAMPLE_RATE // 10  # samples of context; more than the loudness looks ahead


class Marker:
    """Generator and detector of one set of weights. Holds no state between calls; safe to share among threads."""

    def __init__(self, folder: Path, device: str) -> None:
        self._networks, self._settings = load(folder, device)
        self._device = device

    @classmethod
    def load(cls, folder: Path | None = None, device: str = "cpu") -> Marker:
        """Load weights from `folder` (the shipped ones by default).

        Raises:
            MarkError: weights_missing, weights_broken. There is nothing to fall back to.
        """
        return cls(folder or SHIPPED, device)

    @property
    def bits(self) -> int:
        """Bits of a message."""
        return self._settings.size.nbits

    @property
    def model_id(self) -> str:
        """Name of the weights, for records."""
        return self._settings.model_id

    @property
    def threshold(self) -> float:
        """The score from which on a mark counts as found."""
        return self._settings.threshold

    def embed(self, samples: Samples, sample_rate: int, message: int, strength: float = 1.0) -> Samples:
        """Put the mark with `message` into a sound.

        Args:
            samples: float32[n] mono, full scale 1.0.
            sample_rate: Hz.
            message: 0 <= message < 2**bits; its lowest bit is the first.
            strength: Factor on the mark's amplitude; 1.0 is the level that the weights were trained at.

        Returns:
            float32[n] at the same rate. It may exceed full scale by the mark; encoders must turn it down.

        Raises:
            MarkError: bad_message, bad_samples, too_short (under 0.5 s) or silent (no sample above -60 dBFS).
        """
        if not 0 <= message < 2**self.bits:
            raise MarkError("bad_message", f"{message} does not fit into {self.bits} bits")
        _check(samples, sample_rate)
        if len(samples) < MIN_MARKED_SECONDS * sample_rate:
            raise MarkError("too_short", f"a sound under {MIN_MARKED_SECONDS} s cannot carry a mark")
        if float(np.abs(samples).max()) < SILENCE:
            raise MarkError("silent", "silence cannot carry a mark")
        wave = _resample(samples, sample_rate, SAMPLE_RATE)
        bits = torch.tensor([[message >> k & 1 for k in range(self.bits)]], device=self._device)
        mark = np.concatenate([self._mark(block, bits)[kept].numpy() for block, kept in self._blocks(wave)])
        there = _resample(mark * np.float32(strength), SAMPLE_RATE, sample_rate)[: len(samples)]
        return samples + np.pad(there, (0, len(samples) - len(there)))

    def detect(self, samples: Samples, sample_rate: int) -> Detection:
        """Look for a mark in a sound.

        Sounds under 0.5 s and silence give "not found" with score 0: nothing can be said about them.

        Args:
            samples: float32[n] mono, full scale 1.0.
            sample_rate: Hz.

        Raises:
            MarkError: bad_samples.
        """
        _check(samples, sample_rate)
        if len(samples) < MIN_MARKED_SECONDS * sample_rate or float(np.abs(samples).max()) < SILENCE:
            return Detection(False, 0.0, None, 0.0, (), self.threshold)
        wave = _resample(samples, sample_rate, SAMPLE_RATE)
        frames = np.concatenate([self._look(block, kept) for block, kept in self._blocks(wave)])
        return read(frames, self.threshold, self._settings.bit_temperature)

    def _blocks(self, wave: Samples) -> Iterator[tuple[Tensor, slice]]:
        """Blocks of float32[1, samples] with context, and which of their samples count."""
        for start in range(0, len(wave), BLOCK):
            first = max(0, start - BEFORE)
            end = min(len(wave), start + BLOCK)
            block = torch.from_numpy(wave[first : end + AFTER]).to(self._device).unsqueeze(0)
            yield block, slice(start - first, end - first)

    @torch.inference_mode()
    def _mark(self, wave: Tensor, bits: Tensor) -> Tensor:
        raw = self._networks.raw_mark(wave, bits)
        return set_level(raw, wave, self._settings.level_db)[0].cpu()

    @torch.inference_mode()
    def _look(self, wave: Tensor, kept: slice) -> Samples:
        """float32[frames, 1 + bits]: presence in [0, 1] and bit logits, averaged over each 10 ms."""
        looks = [self._networks.look(wave[:, offset:])[0] for offset in OFFSETS]
        presence = torch.stack([_present(look, wave.shape[-1]) for look in looks]).mean(dim=0)
        rows = torch.cat([presence, looks[0][2:]])[:, kept]
        frames = functional.avg_pool1d(rows, HOP, ceil_mode=True)
        return np.asarray(frames.T.cpu().numpy())


def _present(logits: Tensor, samples: int) -> Tensor:
    """Presence in [0, 1] as float32[1, samples]; what a later offset did not see at the front is its first value."""
    presence = (logits[1:2] - logits[:1]).sigmoid()
    return functional.pad(presence, (samples - presence.shape[-1], 0), mode="replicate")


def _resample(samples: Samples, from_rate: int, to_rate: int) -> Samples:
    return np.asarray(soxr.resample(samples, from_rate, to_rate), dtype=np.float32)


def _check(samples: Samples, sample_rate: int) -> None:
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise MarkError("bad_samples", "a mark needs one channel of finite samples")
    if sample_rate < SAMPLE_RATE // 2:
        raise MarkError("bad_samples", f"{sample_rate} Hz is too low a rate for a mark")


assert FRAME_SECONDS * SAMPLE_RATE == HOP  # noqa: S101 - `_look` makes the frames that `read` counts in

"""From waveform to log-mel: the tokenizer's front end.

The one module that imports torchaudio: its wheel from PyPI is a CUDA build, and on a host without a CUDA runtime it
loads only after its compiled extension was set aside (`scripts/torchaudio_on_cpu.py`). Whoever meets that trouble
meets it here and nowhere else. The published model was trained on torchaudio's mel, so it is not written anew.
"""

from __future__ import annotations

import soxr
import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from vivavoce.model.errors import ModelError
from vivavoce.model.tokenizer_config import TokenizerConfig

FLOOR = 1e-7  # smallest magnitude whose logarithm is taken


class MelFrontEnd:
    """Log-mel of mono audio; keeps its filter bank on the device that it was last used on."""

    def __init__(self, config: TokenizerConfig) -> None:
        self.config = config
        self._transform: MelSpectrogram | None = None

    def mel(self, wave: Tensor) -> Tensor:
        """Log-mel float32[frames, n_mels] of wave[samples] at the tokenizer's own rate."""
        # Reflection at both ends needs more than half a window of signal.
        missing = self.config.nfft // 2 + 1 - wave.shape[0]
        if missing > 0:
            wave = torch.nn.functional.pad(wave, (0, missing))
        return self.batch(wave[None])[0]

    def batch(self, waves: Tensor) -> Tensor:
        """Log-mel float32[rows, frames, n_mels] of waves[rows, samples] of equal length, differentiable."""
        config = self.config
        if self._transform is None:
            self._transform = MelSpectrogram(
                sample_rate=config.sampling_rate,
                n_fft=config.nfft,
                win_length=config.window_size,
                hop_length=config.hop_length,
                f_min=config.fmin,
                f_max=config.fmax,
                n_mels=config.n_mels,
                power=1.0,
                center=True,
            )
        self._transform = self._transform.to(waves.device)
        spectrum: Tensor = self._transform(waves.float())
        return spectrum.clamp(min=FLOOR).log().transpose(1, 2)


def resample(wave: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample wave[samples] between any two rates in Hz.

    Not by torchaudio: its filter table has as many rows as the reduced target rate, two gigabytes for 22051 Hz.
    """
    if from_rate == to_rate:
        return wave
    converted = soxr.resample(wave.detach().cpu().float().numpy(), from_rate, to_rate)
    return torch.from_numpy(converted).to(wave.device)


def check_wave(wave: Tensor) -> None:
    """Refuse what is no mono waveform.

    Raises:
        ModelError: not of rank 1, not of floating type, empty, or with NaN or infinite samples.
    """
    if wave.ndim != 1:
        raise ModelError(f"a waveform has one axis, [samples]; this one is {list(wave.shape)}")
    if not wave.is_floating_point():
        raise ModelError(f"a waveform is of floating type in [-1, 1]; this one is {wave.dtype}")
    if wave.shape[0] == 0:
        raise ModelError("the waveform is empty")
    if not bool(torch.isfinite(wave).all()):
        raise ModelError("the waveform has samples that are NaN or infinite")

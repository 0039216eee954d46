"""From waveform to log-mel: the tokenizer's front end.

The one module that imports torchaudio: its wheel from PyPI is a CUDA build, and on a host without a CUDA runtime it
loads only after its compiled extension was set aside (`scripts/torchaudio_on_cpu.py`). Whoever meets that trouble
meets it here and nowhere else. The published model was trained on torchaudio's mel, so it is not written anew.
"""

from __future__ import annotations

import soxr
import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from vivavoce.model.errors import ModelError
from vivavoce.model.tokenizer_config import TokenizerConfig

FLOOR = 1e-7  # smallest magnitude whose logarithm is taken


def mel_transform(
    *, rate: int, nfft: int, window: int, hop: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None
) -> nn.Module:
    """Magnitude mel spectrogram of centred frames: float32[rows, samples] to [rows, n_mels, frames]."""
    made: nn.Module = MelSpectrogram(
        sample_rate=rate,
        n_fft=nfft,
        win_length=window,
        hop_length=hop,
        n_mels=n_mels,
        f_min=fmin,
        f_max=fmax,
        power=1.0,
        center=True,
    )
    return made


class MelFrontEnd:
    """Log-mel of mono audio. Not a part of the model: it has no weights, and stays float32 in a bfloat16 model."""

    def __init__(self, config: TokenizerConfig) -> None:
        self.config = config
        self._transforms: dict[torch.device, nn.Module] = {}

    def mel(self, wave: Tensor) -> Tensor:
        """Log-mel float32[frames, n_mels] of wave[samples] at the tokenizer's own rate."""
        # Reflection at both ends needs more than half a window of signal.
        missing = self.config.nfft // 2 + 1 - wave.shape[0]
        if missing > 0:
            wave = torch.nn.functional.pad(wave, (0, missing))
        return self.batch(wave[None])[0]

    def batch(self, waves: Tensor) -> Tensor:
        """Log-mel float32[rows, frames, n_mels] of waves[rows, samples] of equal length, differentiable."""
        transform = self._transforms.get(waves.device)
        if transform is None:
            transform = self._transforms[waves.device] = self._make().to(waves.device)
        spectrum: Tensor = transform(waves.float())
        return spectrum.clamp(min=FLOOR).log().transpose(1, 2)

    def _make(self) -> nn.Module:
        config = self.config
        return mel_transform(
            rate=config.sampling_rate,
            nfft=config.nfft,
            window=config.window_size,
            hop=config.hop_length,
            n_mels=config.n_mels,
            fmin=config.fmin,
            fmax=config.fmax,
        )


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

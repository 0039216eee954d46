"""Spectral losses between waveforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vivavoce.model.audio import mel_transform

MEL_SCALES = (5, 6, 7)
# Magnitudes below are silence: it is under the rounding noise of a 16-bit file, and what is down there depends on how a
# file was made. With a lower floor the loss, and then the codes, are spent on telling such files apart.
FLOOR = 1e-3
TINY = 1e-5  # keeps the compressed spectrum's gradient finite
COMPRESSION = 0.3


class MelLoss(nn.Module):
    """L1 of log-mels at several scales: at scale i 2^i bins, window 15 * 2^(i-1) and hop 15 * 2^(i-2) samples."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.mels = nn.ModuleList(
            mel_transform(
                rate=sample_rate,
                nfft=max(512, 15 * 2 ** (scale - 1)),
                window=15 * 2 ** (scale - 1),
                hop=15 * 2 ** (scale - 2),
                n_mels=2**scale,
            )
            for scale in MEL_SCALES
        )

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Mean over scales for two float32[rows, samples]."""
        losses = [(_log(mel(made)) - _log(mel(wanted))).abs().mean() for mel in self.mels]
        return torch.stack(losses).mean()


def _log(spectrum: Tensor) -> Tensor:
    return spectrum.clamp(min=FLOOR).log()


def complex_loss(made: Tensor, wanted: Tensor, nfft: int = 1024) -> Tensor:
    """L1 of magnitude-compressed complex spectra (Braun & Tashev 2020): what gives the low harmonics their phase."""
    window = torch.hann_window(nfft, device=made.device)
    spectra = [torch.stft(wave, nfft, nfft // 4, window=window, return_complex=True) for wave in (made, wanted)]
    packed = []
    for spectrum in spectra:
        magnitude = spectrum.abs().clamp(min=TINY)
        packed.append(torch.view_as_real(spectrum * magnitude ** (COMPRESSION - 1)))
    return (packed[0] - packed[1]).abs().mean()

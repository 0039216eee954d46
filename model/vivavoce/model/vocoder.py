"""Coarse mel to waveform: a windowed transformer and an inverse STFT (Siuzdak 2023, Vocos)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.attention import LayerStack, own_frames
from vivavoce.model.layers import Float32Buffers
from vivavoce.model.tokenizer_config import TokenizerConfig

MAX_MAGNITUDE = 1e2


class InverseSTFT(Float32Buffers):
    """Inverse STFT with a Hann window and "same" padding.

    `torch.istft` only knows centred frames. Here frame t covers samples [t * hop, t * hop + nfft), and (nfft - hop) / 2
    are cut off at both ends.
    """

    window: Tensor

    def __init__(self, nfft: int, hop: int) -> None:
        super().__init__()
        self.nfft, self.hop = nfft, hop
        self.cut = (nfft - hop) // 2
        self.register_buffer("window", torch.hann_window(nfft))

    def samples(self, frames: int) -> int:
        """Length of the signal that `frames` frames give."""
        return (frames - 1) * self.hop + self.nfft - 2 * self.cut

    def forward(self, spectrum: Tensor, lengths: Tensor | None) -> Tensor:
        """Signal float32[rows, samples] of complex64[rows, nfft / 2 + 1, frames]."""
        rows, _, frames = spectrum.shape
        # Frames of padding must neither sound nor count in the window's envelope.
        counts = torch.ones((1, frames), device=spectrum.device)
        if lengths is not None:
            counts = own_frames(lengths, frames).float()
        window = self.window[None, :, None] * counts[:, None, :]
        signal = self._overlap_add(torch.fft.irfft(spectrum, self.nfft, dim=1) * window)
        envelope = self._overlap_add(self.window[None, :, None] * window)
        return (signal / envelope.clamp(min=1e-11)).view(rows, -1)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        total = (frames.shape[-1] - 1) * self.hop + self.nfft
        added = F.fold(frames, (1, total), (1, self.nfft), stride=(1, self.hop))
        return added[:, 0, 0, self.cut : total - self.cut]


class SpectrumHead(nn.Module):
    """Log-magnitude and phase of each frame, then the inverse STFT."""

    def __init__(self, width: int, nfft: int, hop: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, nfft + 2)
        self.istft = InverseSTFT(nfft, hop)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Signal float32[rows, samples] of x[rows, frames, width]."""
        magnitude, phase = self.out(x).float().transpose(1, 2).chunk(2, dim=1)
        magnitude = magnitude.exp().clamp(max=MAX_MAGNITUDE)
        return torch.as_tensor(self.istft(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()), lengths))


class Vocoder(LayerStack):
    """Transformer with window attention over mel frames."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.vocoder)
        self.embeddings = nn.Linear(config.n_mels, config.vocoder.width, bias=False)
        self.head = SpectrumHead(config.vocoder.width, config.nfft, config.hop_length)

    def forward(self, mel: Tensor, lengths: Tensor | None) -> Tensor:
        """Signal float32[rows, samples] of coarse mel[rows, frames, n_mels]."""
        return torch.as_tensor(self.head(self.transform(self.embeddings(mel), lengths), lengths))

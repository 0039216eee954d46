"""Discriminators that a processor can carry: strided convolutions over complex spectra at several resolutions.

The published recipe's multi-period and multi-scale discriminators cost twelve times the tokenizer itself on a
processor. Strides along the frequency make these ones cheaper than the tokenizer (as in EnCodec's, Defossez et al.
2022, but fewer channels and no dilation).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

RESOLUTIONS = (512, 1024, 2048)  # samples of a window; a quarter of it is the hop
CHANNELS = (16, 32, 48)
SLOPE = 0.1


class SpectrumDiscriminator(nn.Module):
    """Scores patches of a complex spectrum at one resolution."""

    window: Tensor

    def __init__(self, nfft: int) -> None:
        super().__init__()
        self.nfft = nfft
        self.register_buffer("window", torch.hann_window(nfft), persistent=False)
        widths = (2, *CHANNELS)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (9, 3), stride=(4, 1), padding=(4, 1)))
            for before, after in pairwise(widths)
        )
        self.last = weight_norm(nn.Conv2d(CHANNELS[-1], 1, 3, padding=1))

    def forward(self, waves: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores, and the features of every layer, of waves float32[rows, samples]."""
        spectrum = torch.stft(waves, self.nfft, self.nfft // 4, window=self.window, return_complex=True)
        x = torch.view_as_real(spectrum / self.nfft**0.5).permute(0, 3, 1, 2)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.last(x), features


class Discriminators(nn.Module):
    """All resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.ModuleList(SpectrumDiscriminator(nfft) for nfft in RESOLUTIONS)

    def forward(self, waves: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """What each resolution says of waves float32[rows, samples]."""
        return [one(waves) for one in self.each]


def own_loss(real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of the discriminators, mean over resolutions."""
    pairs = zip(real, made, strict=True)
    return torch.stack([F.relu(1 - r[0]).mean() + F.relu(1 + m[0]).mean() for r, m in pairs]).mean()


def deceiving_loss(made: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss of whoever made the waves."""
    return torch.stack([-score.mean() for score, _ in made]).mean()


def matching_loss(real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """L1 between the features of real and made waves, in units of the real ones' mean size."""
    losses = [
        (ours - true.detach()).abs().mean() / true.detach().abs().mean().clamp(min=1e-3)
        for (_, truth), (_, guess) in zip(real, made, strict=True)
        for true, ours in zip(truth, guess, strict=True)
    ]
    return torch.stack(losses).mean()

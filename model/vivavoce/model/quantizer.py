"""Residual vector quantisation (Zeghidour et al. 2021, SoundStream): each codebook codes what the last one left."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vivavoce.model.layers import Float32Buffers


class Codebook(Float32Buffers):
    """Entries of one codebook, float32[size, width]; a buffer, for training moves it by averages, not gradients."""

    embed: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embed", torch.zeros(size, width))

    def nearest(self, x: Tensor) -> Tensor:
        """Index of the entry nearest to x[..., width] by Euclidean distance: int64[...]."""
        x_squared, e_squared = x.square().sum(-1, keepdim=True), self.embed.square().sum(-1)
        distance = x_squared - 2 * x @ self.embed.T + e_squared
        # Distances closer than the rounding of this sum cannot be told apart; as in an exact tie, the first one wins.
        # Without this, the last bits of an equally good matrix product pick the code.
        rounding = 4 * torch.finfo(torch.float32).eps * (x_squared + e_squared)
        return (distance <= distance.amin(-1, keepdim=True) + rounding).to(torch.uint8).argmax(-1)


class ResidualQuantizer(nn.Module):
    """All codebooks, under the published names `vq.layers.N._codebook`.

    Args:
        sizes: entries of each codebook.
        width: width of the features.
    """

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        layers = [nn.ModuleDict({"_codebook": Codebook(size, width)}) for size in sizes]
        self.vq = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.codebooks: tuple[Codebook, ...] = tuple(layer["_codebook"] for layer in layers)  # type: ignore[misc]

    def encode(self, x: Tensor) -> Tensor:
        """Codes int64[codebooks, ...] of features x[..., width], in float32 whatever the type of x."""
        codes = []
        with torch.autocast(x.device.type, enabled=False):
            residual = x.float()
            for codebook in self.codebooks:
                code = codebook.nearest(residual)
                residual = residual - codebook.embed[code]
                codes.append(code)
        return torch.stack(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Features float32[..., width] of codes int64[n, ...]; n may be less than the number of codebooks."""
        total = self.codebooks[0].embed[codes[0]]
        for codebook, code in zip(self.codebooks[1:], codes[1:], strict=False):
            total = total + codebook.embed[code]
        return total

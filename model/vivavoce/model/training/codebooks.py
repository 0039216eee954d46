"""Codebooks in training: k-means for a start, then exponential moving averages (van den Oord et al. 2017, appendix).

Entries that nothing falls on any more are moved onto features of the current batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vivavoce.model.quantizer import Codebook, ResidualQuantizer
from vivavoce.model.training import distributed

DECAY = 0.98
KMEANS_ROUNDS = 8
DEAD_SHARE = 0.05  # of an even share of the features: an entry below it is dead


@dataclass(frozen=True)
class Quantised:
    """Features[..., width] by all codebooks and by the first alone, and how far they lay from their entries.

    `commitment` is the mean squared distance over all codebooks.
    """

    features: Tensor
    first: Tensor
    commitment: Tensor


class CodebookTrainer:
    """Moves the codebooks of a quantizer; holds the running counts and sums of each entry."""

    def __init__(self, quantizer: ResidualQuantizer, generator: torch.Generator) -> None:
        self.quantizer = quantizer
        self.generator = generator
        self.counts = [torch.ones(len(book.embed)) for book in quantizer.codebooks]
        self.sums = [book.embed.clone() for book in quantizer.codebooks]

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {"counts": self.counts, "sums": self.sums, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.counts, self.sums = state["counts"], state["sums"]
        self.generator.set_state(state["generator"].cpu())

    @torch.no_grad()
    def start(self, features: Tensor) -> None:
        """Place all entries by k-means on features[n, width]."""
        residual = features
        for index, book in enumerate(self.quantizer.codebooks):
            book.embed.copy_(self._pick(residual, len(book.embed)))
            for _ in range(KMEANS_ROUNDS):
                counts, sums = _tally(book, residual, book.nearest(residual))
                used = counts > 0
                book.embed[used] = sums[used] / counts[used, None]
                book.embed[~used] = self._pick(residual, int((~used).sum()))
            code = book.nearest(residual)
            counts, _ = _tally(book, residual, code)
            # Running counts are of one batch's size, whatever number of features k-means saw.
            self.counts[index] = counts.clamp(min=1)
            self.sums[index] = book.embed * self.counts[index][:, None]
            residual = residual - book.embed[code]

    def quantize(self, features: Tensor) -> Quantised:
        """Quantise features[..., width] with a straight-through gradient, and move the codebooks."""
        flat = features.reshape(-1, features.shape[-1]).float()
        residual, total = flat, torch.zeros_like(flat)
        commitment = flat.new_zeros(())
        first = total
        for index, book in enumerate(self.quantizer.codebooks):
            code = book.nearest(residual.detach())
            entry = book.embed[code]
            commitment = commitment + F.mse_loss(residual, entry)
            self._move(index, residual.detach(), code)
            residual, total = residual - entry, total + entry
            if index == 0:
                first = flat + (total - flat).detach()
        quantized = flat + (total - flat).detach()
        shape = features.shape
        return Quantised(quantized.view(shape), first.view(shape), commitment / len(self.quantizer.codebooks))

    @torch.no_grad()
    def _move(self, index: int, residual: Tensor, code: Tensor) -> None:
        book = self.quantizer.codebooks[index]
        counts, sums = _tally(book, residual, code)
        self.counts[index].lerp_(counts, 1 - DECAY)
        self.sums[index].lerp_(sums, 1 - DECAY)
        dead = self.counts[index] < DEAD_SHARE * self.counts[index].sum() / len(counts)
        self.sums[index][dead] = self._pick(residual, int(dead.sum()))
        self.counts[index][dead] = 1.0
        book.embed.copy_(self.sums[index] / self.counts[index][:, None])

    def _pick(self, features: Tensor, count: int) -> Tensor:
        drawn = torch.randint(len(features), (count,), generator=self.generator)
        return distributed.same(features[drawn.to(features.device)])


def _tally(book: Codebook, features: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    """Features per entry and their sums, over all processes."""
    counts = torch.bincount(code, minlength=len(book.embed)).float()
    return distributed.total(counts), distributed.total(torch.zeros_like(book.embed).index_add_(0, code, features))

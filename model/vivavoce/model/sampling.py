"""How the next text id and the next codes are drawn from logits.

Order: temperature, top-k, top-p (Holtzman et al. 2020), forbidden ids, then one draw. The draw inverts the cumulative
distribution at a uniform number that the caller brings, so that each row of a batch uses a generator of its own and
never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from vivavoce.model.errors import ModelError


@dataclass(frozen=True)
class Sampling:
    """How one id is drawn.

    Attributes:
        temperature: divides the logits, above 0.
        top_k: only the k likeliest ids; 0 means all.
        top_p: only the likeliest ids that together hold this probability, above 0 up to 1.
        greedy: the likeliest allowed id, whatever the rest says.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ModelError(f"not a way to sample: {self}")


GREEDY = Sampling(greedy=True)


@dataclass(frozen=True)
class TaskSampling:
    """Sampling of text ids and of codes."""

    text: Sampling
    local: Sampling


LOCAL = Sampling(temperature=0.9, top_p=0.95)
# Defaults of the published models, by task.
SPEECH = TaskSampling(Sampling(temperature=0.6), LOCAL)
TRANSCRIPTION = TaskSampling(GREEDY, LOCAL)
DIALOGUE = TaskSampling(Sampling(temperature=0.6, top_p=0.95), LOCAL)
CONVERSION = TaskSampling(GREEDY, LOCAL)


class Ways(NamedTuple):
    """What some row of a batch asks for, so that the rest need not be computed."""

    draws: bool
    top_k: bool
    top_p: bool


class Sampler:
    """Draws one id for each row of a batch, every row in its own way.

    Attributes:
        ways: what it computes.
        values: of all rows: whether greedy, temperature, top-k, top-p.
    """

    def __init__(self, samplings: Sequence[Sampling], device: torch.device) -> None:
        drawn = [one for one in samplings if not one.greedy]
        self.ways = Ways(bool(drawn), any(one.top_k for one in drawn), any(one.top_p < 1 for one in drawn))
        self.values: tuple[Tensor, ...] = (
            torch.tensor([one.greedy for one in samplings], dtype=torch.bool, device=device),
            torch.tensor([one.temperature for one in samplings], device=device),
            torch.tensor([one.top_k for one in samplings], dtype=torch.int64, device=device),
            torch.tensor([one.top_p for one in samplings], device=device),
        )

    @classmethod
    def of(cls, values: tuple[Tensor, ...], ways: Ways) -> Self:
        """The sampler with these attributes."""
        sampler = cls.__new__(cls)
        sampler.values, sampler.ways = values, ways
        return sampler

    def pick(self, logits: Tensor, uniform: Tensor, forbidden: Tensor | None = None) -> Tensor:
        """Draw int64[rows] from logits[rows, ids], or int64[rows, n] from logits[rows, n, ids].

        Args:
            logits: scores, any floating type.
            uniform: float64 in [0, 1), one number for each draw.
            forbidden: bool, broadcasts against the logits; these ids never come.
        """
        scores = logits.float()
        open_scores = scores if forbidden is None else scores.masked_fill(forbidden, -torch.inf)
        likeliest = open_scores.argmax(-1)
        greedy, temperature, _, _ = self.values
        if not self.ways.draws:
            return likeliest
        scores = self._truncate(scores / _beside(temperature, scores))
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, -torch.inf)
        # float64: the sum over a large vocabulary must end where the last possible id does
        mass = scores.softmax(-1).double().cumsum(-1)
        drawn = torch.searchsorted(mass, uniform[..., None] * mass[..., -1:], right=True).squeeze(-1)
        # Truncation may have left only forbidden ids: then the likeliest allowed one.
        closed = torch.isneginf(scores).all(-1) | (drawn >= scores.shape[-1])
        return torch.where(_beside(greedy, likeliest) | closed, likeliest, drawn)

    def _truncate(self, scores: Tensor) -> Tensor:
        if self.ways.top_k:
            top_k = _beside(self.values[2], scores).expand(*scores.shape[:-1], 1)
            place = (scores.shape[-1] - top_k).clamp(0, scores.shape[-1] - 1)
            least = _ascending(scores).gather(-1, place).masked_fill(top_k == 0, -torch.inf)
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self.ways.top_p:
            top_p = _beside(self.values[3], scores)
            ranked = _ascending(scores)
            outside = (ranked.softmax(-1).cumsum(-1) <= 1 - top_p) & (top_p < 1)
            place = outside.sum(-1, keepdim=True).clamp(max=scores.shape[-1] - 1)
            scores = scores.masked_fill(scores < ranked.gather(-1, place), -torch.inf)
        return scores


def _ascending(scores: Tensor) -> Tensor:
    """Scores sorted along the last axis."""
    if scores.device.type == "cpu":  # numpy sorts a vocabulary of 1025 ten times faster than torch does here
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1))
    return scores.sort(-1).values


def _beside(of_rows: Tensor, x: Tensor) -> Tensor:
    """Shape values [rows] so that they broadcast against x[rows, ...]."""
    return of_rows.view(-1, *[1] * (x.dim() - 1))


def uniform_numbers(count: int, generator: torch.Generator | None) -> Tensor:
    """float64[count] in [0, 1) from a row's own generator (None: the process's), on the generator's device."""
    device = torch.device("cpu") if generator is None else generator.device
    return torch.rand(count, generator=generator, dtype=torch.float64, device=device)

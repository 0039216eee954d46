"""A batch of cuts, and what is true of each of their samples: whether it is marked, and with which message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from vivavoce.watermark.networks import GROUP_FRAMES

UNMARKED = -1


@dataclass(frozen=True)
class Cuts:
    """Speech and its truth, which every edit that moves the sound has to move along.

    Attributes:
        waves: float32[batch, samples].
        groups: int64[batch, samples], the index of the group that a sample belongs to, or `UNMARKED`.
        messages: int64[batch, groups, nbits].
        readable: bool[batch], whether the bits can be asked for.
        mute: bool[batch], whether the bits' logits should say nothing. Never both; a row can be neither.
    """

    waves: Tensor
    groups: Tensor
    messages: Tensor
    readable: Tensor
    mute: Tensor

    @property
    def present(self) -> Tensor:
        """float32[batch, samples]: 1 where the mark is."""
        return (self.groups != UNMARKED).to(self.waves.dtype)

    def rows(self, rows: Tensor) -> Cuts:
        """Some of the rows, int64[rows], as cuts of their own."""
        return Cuts(*(getattr(self, field.name)[rows] for field in fields(self)))

    def edited(self, waves: Tensor, pace: float = 1.0, *, readable: bool = True) -> Cuts:
        """The same truth for other waves.

        Args:
            waves: float32[batch, any number of samples].
            pace: Samples of these cuts that go into one sample of `waves`: above 1 the sound became faster.
            readable: Whether the edit left bits to be read.
        """
        place = torch.arange(waves.shape[-1], device=waves.device) * pace
        groups = self.groups[:, place.round().long().clamp(max=self.groups.shape[-1] - 1)]
        return replace(self, waves=waves, groups=groups, readable=self.readable & readable)

    def window(self, starts: Tensor, samples: int, taught: Tensor, mute: Tensor) -> Cuts:
        """`samples` samples of each row, from int64[batch] `starts` on; see `draw_starts` for the other two."""
        place = starts.unsqueeze(1) + torch.arange(samples, device=starts.device)
        waves, groups = self.waves.gather(1, place), self.groups.gather(1, place)
        return Cuts(waves, groups, self.messages, self.readable & taught, self.readable & mute)


def joined(parts: Sequence[Cuts]) -> Cuts:
    """The rows of several cuts of one length."""
    return Cuts(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Cuts)))


def draw_messages(batch: int, frames: int, nbits: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Messages that change at group borders, with the first border anywhere.

    Returns:
        int64[batch, groups, nbits] messages, and int64[batch, frames] the index of each frame's group.
    """
    phase = rng.integers(0, GROUP_FRAMES, (batch, 1))
    groups = (np.arange(frames) + phase) // GROUP_FRAMES
    messages = rng.integers(0, 2, (batch, int((frames + GROUP_FRAMES - 2) // GROUP_FRAMES) + 1, nbits))
    return torch.from_numpy(messages), torch.from_numpy(groups)


def spoken(messages: Tensor, groups: Tensor) -> Tensor:
    """The message of each frame, int64[batch, frames, nbits]."""
    return messages.gather(1, groups.unsqueeze(-1).expand(-1, -1, messages.shape[-1]))


def draw_masks(batch: int, samples: int, rng: np.random.Generator) -> Tensor:
    """Where the mark stays, bool: everywhere (half of the cuts), nowhere (a quarter), or in one span of the cut."""
    masks = np.ones((batch, samples), dtype=bool)
    for row in range(batch // 2, batch):
        if row % 2:
            masks[row] = False
            continue
        start, end = sorted(rng.integers(0, samples, 2))
        inside = bool(rng.integers(0, 2))
        masks[row] = not inside
        masks[row, start:end] = inside
    return torch.from_numpy(masks)


def draw_starts(batch: int, room: int, hop: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Where each row's window starts: two thirds on the latent frames' grid, a third anywhere.

    Args:
        batch: Rows.
        room: The highest start.
        hop: Samples from one latent frame to the next.
        rng: Draws.

    Returns:
        int64[batch] starts, and int64[batch] how far they are from the grid.
    """
    anywhere = rng.integers(0, room + 1, batch)
    starts = np.where(rng.integers(0, 3, batch) == 0, anywhere, anywhere // hop * hop)
    return torch.from_numpy(starts), torch.from_numpy(np.minimum(starts % hop, -starts % hop))

"""The grid that a sequence is: text ids and RVQ codes, group by group.

`audio_channels + 1` rows by `group_size * T` columns. Row 0 holds one text id per group in its first column, -100 in
the others; rows 1.. hold the codes. Inside the model the two halves travel apart: text[T] and codes[T, group, channel].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivavoce.model.errors import ModelError
from vivavoce.model.lm_config import LMConfig

FILLER = -100  # in row 0, beside the one id that counts


@dataclass(frozen=True)
class Groups:
    """A sequence of groups.

    Attributes:
        text: int64[T].
        codes: int64[T, group_size, channels].
    """

    text: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return len(self.text)

    def parted(self, length: int) -> tuple[Groups, Groups | None]:
        """The first `length` groups, and the rest; None when there is no rest."""
        if len(self) <= length:
            return self, None
        return Groups(self.text[:length], self.codes[:length]), Groups(self.text[length:], self.codes[length:])


def split_grid(grid: Tensor, config: LMConfig) -> Groups:
    """Take a grid apart.

    Raises:
        ModelError: the grid's shape or type is wrong, it has no group, or an id is outside its vocabulary.
    """
    rows, size = config.channels + 1, config.group_size
    if not isinstance(grid, Tensor) or grid.dtype.is_floating_point or grid.dtype in (torch.bool, torch.complex64):
        raise ModelError("a grid is a tensor of integers")
    if grid.dim() != 2 or grid.shape[0] != rows or grid.shape[1] % size or not grid.shape[1]:
        raise ModelError(f"a grid has {rows} rows and a multiple of {size} columns, not {list(grid.shape)}")
    grid = grid.long()
    text = grid[0, ::size]
    codes = grid[1:].reshape(config.channels, -1, size).permute(1, 2, 0)
    if bool(((text < 0) | (text >= config.vocab)).any()):
        raise ModelError(f"a text id is outside 0..{config.vocab - 1}")
    sizes = torch.tensor(config.code_sizes, device=codes.device)
    if bool(((codes < 0) | (codes >= sizes)).any()):
        raise ModelError(f"a code is outside its channel's vocabulary {list(config.code_sizes)}")
    return Groups(text, codes)


def join_grid(groups: Groups) -> Tensor:
    """Put a grid together: int64[1 + channels, group_size * T]."""
    length, size, channels = groups.codes.shape
    grid = groups.codes.new_full((channels + 1, length * size), FILLER)
    grid[0, ::size] = groups.text
    grid[1:] = groups.codes.permute(2, 0, 1).reshape(channels, length * size)
    return grid


def text_groups(ids: Sequence[int], config: LMConfig) -> Groups:
    """One group per text id, every channel at its "zero" id."""
    codes = torch.tensor(config.zero_ids).expand(len(ids), config.group_size, config.channels)
    return Groups(torch.tensor(list(ids), dtype=torch.int64), codes)


def speech_groups(codes: Tensor, config: LMConfig, empty_id: int) -> Groups:
    """Patches of RVQ codes; the last frame is repeated up to a whole patch.

    Args:
        codes: int64[n_q, frames], `n_q` at least the number of channels; further codebooks are left out.
        config: sizes of the language model.
        empty_id: text id of a speech group.

    Raises:
        ModelError: too few codebooks, or no frame.
    """
    if codes.dim() != 2 or codes.shape[0] < config.channels or not codes.shape[1]:
        raise ModelError(f"speech is a tensor [codebooks >= {config.channels}, frames >= 1], not {list(codes.shape)}")
    frames = codes[: config.channels].long()
    short = -frames.shape[1] % config.group_size
    frames = torch.cat((frames, frames[:, -1:].expand(-1, short)), dim=1)
    patches = frames.T.reshape(-1, config.group_size, config.channels)
    return Groups(torch.full((len(patches),), empty_id, dtype=torch.int64), patches)


def concatenate(parts: Sequence[Groups]) -> Groups:
    """Join sequences end to end."""
    return Groups(torch.cat([part.text for part in parts]), torch.cat([part.codes for part in parts]))

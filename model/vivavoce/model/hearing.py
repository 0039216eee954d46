"""A sound heard while it is still being generated: its samples piece by piece, in order, each once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vivavoce.model.errors import ModelError
from vivavoce.model.tokenizer import DecoderStream

Hear = Callable[[Tensor], None]
"""Takes the next piece, float32[samples] in [-1, 1]."""

FIRST_FRAMES = 12  # code frames (0.48 s) of a piece at the beginning, where somebody waits for the first sound ...
PIECE_FRAMES = 24  # ... and later on: each piece decodes what lies before and behind it again
SOON = 4 * FIRST_FRAMES  # code frames from which on it is later
BEFORE = 50  # code frames (2 s) that are decoded again before each piece


@dataclass(eq=False)
class Hearing:
    """How far one request has been heard.

    Attributes:
        hear: who hears.
        stream: of the tokenizer's decoder.
        groups: of the row that were looked at.
        frames: code frames that the decoder was given.
        pieces: what was heard.
        error: why nothing more can be heard: a piece was not finite, or who heard it failed.
    """

    hear: Hear
    stream: DecoderStream = field(default_factory=lambda: DecoderStream(BEFORE))
    groups: int = 0
    frames: int = 0
    pieces: list[Tensor] = field(default_factory=list)
    error: Exception | None = None

    def due(self, groups: int, group_size: int, held_back: int) -> bool:
        """Whether a row of so many groups may have enough for another piece, where the decoder holds some frames back.

        It may not: groups of text sound of nothing.
        """
        wanted = FIRST_FRAMES if self.frames < SOON else PIECE_FRAMES
        return (groups - self.groups) * group_size >= wanted + (0 if self.frames else held_back)

    def give(self, samples: Tensor) -> None:
        """Let the next samples be heard. Never raises: others are heard in the same pass."""
        if not len(samples) or self.error is not None:
            return
        try:
            piece = audible(samples)
            self.hear(piece)
            self.pieces.append(piece)
        except Exception as error:
            self.error = error

    def wave(self) -> Tensor:
        """All that was heard, float32[samples]."""
        return torch.cat(self.pieces) if self.pieces else torch.empty(0)


def audible(samples: Tensor) -> Tensor:
    """float32[samples] in [-1, 1] on the CPU; raises `ModelError` where a sample is not finite."""
    wave = samples.float().cpu()
    if not bool(wave.isfinite().all()):
        raise ModelError("the model produced a sound that is not finite")
    return wave.clamp(-1, 1)

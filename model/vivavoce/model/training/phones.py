"""The tokenizer's share in the words: which phone is spoken must be readable from the first codebook.

The published recipe teaches it by a small language model that writes the text. Where it is known when each phone
begins, a handful of convolutions that name the phone of every 20 ms teach the same in a fraction of the steps. And
what names phones also finds them: `align` places the tokens of a known text in a recording.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vivavoce.model.spoken import PAUSES, PHONES, STRESS
from vivavoce.model.training.clips import Spoken

PHONES_FILE = "phones.safetensors"
SILENCE = 0
CLASSES = {phone: number for number, phone in enumerate(PHONES, start=1)}
SLOTS = 2  # per code frame: a phone can be shorter than 40 ms
UNKNOWN = -100


class PhoneHead(nn.Module):
    """Names the phone of every half code frame from the quantised features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Conv1d(width, width, 5, padding=2)
        self.outer = nn.Conv1d(width, SLOTS * (len(CLASSES) + 1), 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Scores [rows, SLOTS * frames, classes] of features[rows, frames, width]."""
        scores = self.outer(F.gelu(self.inner(self.norm(features).transpose(1, 2)))).transpose(1, 2)
        return torch.as_tensor(scores).reshape(len(features), SLOTS * features.shape[1], len(CLASSES) + 1)


def phone_class(token: str) -> int:
    """Class of a spoken token."""
    return SILENCE if token in PAUSES else CLASSES[token.strip(f" {STRESS}")]


def targets(spoken: Sequence[Spoken | None], frames: int, frame_rate: float) -> Tensor:
    """Classes int64[rows, SLOTS * frames] in the middle of every slot; UNKNOWN for rows whose words are unknown."""
    unknown = torch.full((SLOTS * frames,), UNKNOWN)
    return torch.stack(
        [unknown if one is None else classes(one.tokens, one.starts, frames, frame_rate) for one in spoken]
    )


def classes(tokens: Sequence[str], starts: ArrayLike, frames: int, frame_rate: float) -> Tensor:
    """Classes int64[SLOTS * frames] in the middle of every slot, of tokens that begin at these seconds."""
    middles = (np.arange(SLOTS * frames) + 0.5) / (SLOTS * frame_rate)
    known = np.array([SILENCE, *(phone_class(token) for token in tokens)])
    return torch.from_numpy(known[np.searchsorted(starts, middles, side="right")])


def place(scores: Tensor, tokens: Sequence[str], frame_rate: float) -> tuple[NDArray[np.float32], float]:
    """Place tokens in a recording by the most likely path (Viterbi 1967), silence allowed before, between and after.

    Args:
        scores: float[slots, classes] of the recording.
        tokens: what is said in it.
        frame_rate: code frames in one second.

    Returns:
        Starts in seconds, float32[tokens], and the path's mean log-probability per slot, which is low where the
        words are not those that were said.
    """
    logs = scores.float().log_softmax(-1).numpy()
    # States in turn: silence, first token, silence, second token, ..., silence. Silence can be skipped.
    classes = [SILENCE]
    for token in tokens:
        classes += [phone_class(token), SILENCE]
    emitted = logs[:, classes]
    count, slots = len(classes), len(logs)
    inside = np.arange(count) % 2 == 1
    # Silence is entered only where a word begins or a pause is written: elsewhere it would eat closures.
    opens = [True, *((token in PAUSES or token.startswith(" ")) for token in tokens[1:]), True]
    allowed = inside.copy()
    allowed[0::2] = opens
    path = np.zeros((slots, count), dtype=np.int8)
    best = np.full(count, -np.inf)
    best[:2] = emitted[0, :2]
    for slot in range(1, slots):
        one, two = np.full(count, -np.inf), np.full(count, -np.inf)
        one[1:] = best[:-1]
        two[3::2] = best[1:-2:2]
        choice = np.stack((best, one, two)).argmax(0)
        best = np.maximum(np.maximum(best, one), two) + emitted[slot]
        best[~allowed] = -np.inf
        path[slot] = choice
    state = count - 1 if best[-1] >= best[-2] else count - 2
    mean = float(best[state]) / slots
    starts = np.zeros(len(tokens), dtype=np.float32)
    for slot in range(slots - 1, -1, -1):
        if state % 2:
            starts[state // 2] = slot / (SLOTS * frame_rate)
        state -= int(path[slot, state])
    return starts, mean

"""The learned mark, and what its detector saw, frame by frame: presence, its stretches, and the bits of its groups."""

from __future__ import annotations

from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vivavoce.watermark.code import CODE_BITS
from vivavoce.watermark.keyed.layout import GROUP_COLUMNS, Layout
from vivavoce.watermark.keyed.tracks import ENOUGH, FRAME_SECONDS, Columns
from vivavoce.watermark.level import HOP, set_level
from vivavoce.watermark.networks import SAMPLE_RATE, Networks
from vivavoce.watermark.weights import Settings

# A vocoder leaves traces with a period of its own, which at some offsets from the networks' hop look like the mark. The
# true mark is seen at any offset, so presence is the mean over five of them, no two a multiple of a stride apart.
OFFSETS = (0, 61, 127, 190, 254)  # samples
BLOCK = 10 * SAMPLE_RATE  # samples; each block hears its context again
BEFORE = SAMPLE_RATE  # samples of context; more than the causal networks look back

WINDOW = 100  # frames: presence is judged over 1 s
SMOOTH = 25  # frames: borders are drawn on a quarter of a second
SHORTEST = 25  # frames: shorter stretches are no evidence
GAP_SECONDS = 0.1  # more between two columns, and they belong to different groups
SUREST = 3.0  # nats; one group's bits never count for more

Frames = NDArray[np.float32]


@torch.inference_mode()
def mark_of(networks: Networks, wave: Tensor, messages: Tensor, level_db: float | None) -> Tensor:
    """The mark to be added to float32[batch, samples] at 16 kHz; see `Networks.raw_mark` and `Settings.level_db`."""
    raw = networks.raw_mark(wave, messages)
    return raw if level_db is None else set_level(raw, wave, level_db)


@torch.inference_mode()
def frames_of(networks: Networks, wave: NDArray[np.float32], context: int, device: str) -> Frames:
    """Presence in [0, 1] and bit logits, float32[frames, 1 + bits], averaged over each 10 ms.

    Args:
        wave: float32[samples] at 16 kHz.
        context: How many of the first samples are only there to be looked back at; a multiple of 160.
    """
    found = []
    for start in range(context, len(wave), BLOCK):
        first = max(0, start - BEFORE)
        block = torch.from_numpy(wave[first : start + BLOCK]).to(device).unsqueeze(0)
        whole = networks.look(block)[0]
        shifted = [networks.look(block[:, offset:], rows=2)[0] for offset in OFFSETS if 0 < offset < block.shape[-1]]
        presence = torch.stack([_present(look, block.shape[-1]) for look in (whole, *shifted)]).mean(dim=0)
        rows = torch.cat([presence, whole[2:]])[:, start - first :]
        found.append(functional.avg_pool1d(rows, HOP, ceil_mode=True).T.cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, 1 + networks.size.nbits), dtype=np.float32)


def _present(logits: Tensor, samples: int) -> Tensor:
    """Presence in [0, 1] as float32[1, samples]; what a later offset did not see at the front is its first value."""
    presence = (logits[1:2] - logits[:1]).sigmoid()
    return functional.pad(presence, (samples - presence.shape[-1], 0), mode="replicate")


def highest(presence: Frames) -> float:
    """The mean over the second where it is highest."""
    return float(_running_mean(presence, WINDOW).max()) if len(presence) else 0.0


def evidence(presence: float, settings: Settings) -> float:
    """-log10 of the share of unmarked sounds that look like this, by the calibration of the weights."""
    return ENOUGH + settings.score_slope * (_logit(presence) - _logit(settings.threshold))


def _logit(probability: float) -> float:
    kept = min(max(probability, 1e-6), 1 - 1e-6)
    return log(kept / (1 - kept))


def stretches(presence: Frames) -> list[tuple[float, float]]:
    """Seconds from and to between which the learned mark is present."""
    padded = np.pad(presence, (SMOOTH // 2, SMOOTH - 1 - SMOOTH // 2), mode="edge")
    inside = np.concatenate([[False], _running_mean(padded, SMOOTH) > 0.5, [False]])
    borders = np.flatnonzero(inside[1:] != inside[:-1]).reshape(-1, 2).tolist()
    return [(a * FRAME_SECONDS, b * FRAME_SECONDS) for a, b in borders if b - a >= SHORTEST]


def soft_bits(frames: NDArray[np.float16], columns: Columns, layout: Layout, temperature: float) -> NDArray[np.float32]:
    """float32[CODE_BITS] of what the groups along a track say, in nats."""
    values = np.zeros(CODE_BITS, dtype=np.float32)
    groups = columns.place // GROUP_COLUMNS
    borders = np.flatnonzero((np.diff(groups) != 0) | (np.diff(columns.seconds) > GAP_SECONDS)) + 1
    for run in np.split(np.arange(len(groups)), borders):
        if not len(run):
            continue
        first, last = (round(columns.seconds[at] / FRAME_SECONDS) for at in (run[0], run[-1]))
        heard = frames[first : last + 4].astype(np.float32)
        if not len(heard):
            continue
        nats = np.clip(np.average(heard[:, 1:], axis=0, weights=heard[:, 0] + 1e-6) / temperature, -SUREST, SUREST)
        group = int(groups[run[0]])
        signs = 1.0 - 2.0 * layout.message_flip[group]
        np.add.at(values, layout.message_bit[group], (signs * nats).astype(np.float32))
    return values


def _running_mean(values: Frames, width: int) -> Frames:
    """Means over every `width` neighbours (over all where there are fewer)."""
    width = min(width, len(values))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return np.asarray((sums[width:] - sums[:-width]) / width, dtype=np.float32)

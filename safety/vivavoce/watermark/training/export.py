"""From a run's checkpoint to a folder of weights.

Threshold and slope are set on speech that was kept out of training: every clip unmarked, as it is and edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vivavoce.watermark.keyed.tracks import ENOUGH
from vivavoce.watermark.learned import frames_of, highest, mark_of
from vivavoce.watermark.level import HOP
from vivavoce.watermark.networks import SAMPLE_RATE, Networks, NetworkSize
from vivavoce.watermark.training.codecs import named
from vivavoce.watermark.training.cuts import draw_messages, spoken
from vivavoce.watermark.training.data import Wave, read_16k, speech_files
from vivavoce.watermark.training.edits import EDITS, WARPS
from vivavoce.watermark.training.loop import read_checkpoint
from vivavoce.watermark.weights import Settings, save

CLIP_SECONDS = 5.0
TAIL = 0.1  # share of the unmarked scores that the tail is fitted to
TEMPERATURES = np.geomspace(1.0, 8.0, 25)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a run has come to."""

    networks: Networks
    plan: dict[str, Any]
    progress: dict[str, Any]

    @property
    def level_db(self) -> float:
        """Where the level stands."""
        return round(float(self.progress["snr_db"]), 2)


@dataclass(frozen=True)
class Calibration:
    """Scores of the same clips, unmarked and marked, with every edit; and what was read in each group of the marked.

    Attributes:
        unmarked: float64[clips * edits], presence over the second where it is highest.
        marked: float64[clips * edits].
        logits: float64[bits], positive where the bit was read right; groups of edits that leave bits to be read.
    """

    unmarked: Array
    marked: Array
    logits: Array

    @property
    def score_slope(self) -> float:
        """Powers of ten by which unmarked scores get rarer with each nat: their tail taken to be exponential."""
        return round(1 / (log(10) * self._mean_excess), 4)

    @property
    def threshold(self) -> float:
        """The score that one unmarked sound in 10**ENOUGH reaches by that tail; never below one that was seen."""
        nats = self._tail_begins + self._mean_excess * log(TAIL * 10**ENOUGH)
        return round(float(np.clip(max(_chance(nats), self.unmarked.max()), 0.01, 0.99)), 4)

    @property
    def bit_temperature(self) -> float:
        """The divisor, from 1 on, with which the bits' logits say most truly how sure they are."""
        losses = [np.logaddexp(0, -self.logits / temperature).mean() for temperature in TEMPERATURES]
        return round(float(TEMPERATURES[int(np.argmin(losses))]), 3)

    @property
    def summary(self) -> dict[str, Any]:
        """For the weights' record."""
        return {
            "scores": len(self.unmarked),
            "unmarked_highest": round(float(self.unmarked.max()), 4),
            "marked_lowest_twentieth": round(float(np.quantile(self.marked, 0.05)), 4),
            "marked_found": round(float((self.marked >= self.threshold).mean()), 4),
            "bits_right": round(float((self.logits > 0).mean()), 4),
        }

    @property
    def _tail_begins(self) -> float:
        return float(np.quantile(_nats(self.unmarked), 1 - TAIL))

    @property
    def _mean_excess(self) -> float:
        nats = _nats(self.unmarked)
        return max(0.1, float((nats[nats >= self._tail_begins] - self._tail_begins).mean()))


def read_run(run: Path) -> Trained:
    """The networks of a run's folder.

    Raises:
        ValueError: there is no run in it, or its checkpoint is broken.
    """
    state = read_checkpoint(run)
    plan = state["plan"]
    networks = Networks(NetworkSize(**{**plan["size"], "ratios": tuple(plan["size"]["ratios"])}))
    networks.load_state_dict(state["networks"])
    return Trained(networks.eval().requires_grad_(requires_grad=False), plan, state["progress"])


def calibrate(trained: Trained, level_db: float | None, clips: Iterable[Wave]) -> Calibration:
    """Score each clip (float32[samples], 16 kHz) with each edit, unmarked and marked (level: see `Settings`)."""
    edits = [*EDITS, *(named(name) for name in trained.plan["edits"])]
    disguises = [named(name) for name in trained.plan["disguises"]]
    unmarked, marked, logits = [], [], []
    for number, clip in enumerate(clips):
        rng = np.random.default_rng((trained.plan["seed"], number))
        wave = torch.from_numpy(clip).unsqueeze(0)
        with_mark, messages, groups = _marked(trained.networks, wave, level_db, rng)
        for edit in edits:
            unmarked.append(highest(_frames(trained, edit(wave, rng))[:, 0]))
            frames = _frames(trained, edit(with_mark, rng))
            marked.append(highest(frames[:, 0]))
            logits.append(_read(frames, messages, groups))
        unmarked += [highest(_frames(trained, disguise(wave, rng))[:, 0]) for disguise in disguises]
        for warp in WARPS:
            unmarked.append(highest(_frames(trained, warp(wave, rng)[0])[:, 0]))
            marked.append(highest(_frames(trained, warp(with_mark, rng)[0])[:, 0]))
    return Calibration(np.array(unmarked), np.array(marked), np.concatenate(logits))


def held_out_clips(folders: Sequence[Path], most: int) -> Iterator[Wave]:
    """Up to `most` clips of 5 s, float32[samples] at 16 kHz, of files that training never reads.

    Raises:
        FileNotFoundError: there are none.
    """
    files = speech_files(folders, held_out=True)
    if not files:
        raise FileNotFoundError("no held-out speech files found")
    for file in files[:: max(1, len(files) // most)][:most]:
        yield read_16k(file)[: int(CLIP_SECONDS * SAMPLE_RATE)]


def write(folder: Path, trained: Trained, name: str, level_db: float | None, scores: Calibration) -> None:
    """Write the networks as a folder of weights called `name`."""
    training = {
        "plan": trained.plan,
        "progress": trained.progress,
        "torch": torch.__version__,
        "calibration": scores.summary,
    }
    size, networks = trained.networks.size, trained.networks
    settings = Settings(name, size, level_db, scores.threshold, training, scores.bit_temperature, scores.score_slope)
    save(folder, networks, settings)


def _marked(
    networks: Networks, wave: Tensor, level_db: float | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The marked wave, its messages int64[groups, nbits], and int64[frames of 10 ms] the group of each."""
    hop = networks.size.hop
    messages, groups = draw_messages(1, -(-wave.shape[-1] // hop), networks.size.nbits, rng)
    mark = mark_of(networks, wave, spoken(messages, groups), level_db)
    return wave + mark, messages[0], groups[0].repeat_interleave(hop // HOP)


def _frames(trained: Trained, wave: Tensor) -> NDArray[np.float32]:
    return frames_of(trained.networks, wave[0].numpy(), 0, "cpu")


def _read(frames: NDArray[np.float32], messages: Tensor, groups: Tensor) -> Array:
    """Logits of each group's bits, turned so that positive is right."""
    count = min(len(frames), len(groups))
    inside = functional.one_hot(groups[:count], len(messages)).double()
    means = (inside.T @ torch.from_numpy(frames[:count, 1:]).double()) / inside.sum(dim=0).clamp(min=1).unsqueeze(1)
    whole = inside.sum(dim=0) > 0
    return np.asarray((means * (2 * messages - 1))[whole].reshape(-1).numpy())


def _nats(scores: Array) -> Array:
    kept = scores.clip(1e-6, 1 - 1e-6)
    return np.asarray(np.log(kept / (1 - kept)))


def _chance(nats: float) -> float:
    return 1 / (1 + exp(-nats))

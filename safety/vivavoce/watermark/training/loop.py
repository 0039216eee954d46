"""The training loop: bits first and loud, then the mark is turned down as fast as bits and presence allow.

Learning presence, bits and quietness at once collapses: presence comes, bits stay at chance. So the level is no
loss but a controlled figure: it starts with the mark louder than the speech, and a controller lowers it by a little
at each step at which the networks still read it, and raises it when they don't. Step n draws everything from
(seed, n), so that a resumed run goes on exactly as an uninterrupted one would.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.watermark.level import set_level
from vivavoce.watermark.networks import SAMPLE_RATE, Networks, NetworkSize
from vivavoce.watermark.training.data import Speech
from vivavoce.watermark.training.edits import EDITS, MOST_SHIFT, crop

SAVE_SECONDS = 120.0
LOG_EVERY = 20  # steps
SETTLED = 0.93  # share of bits read right at which they have come
BITS_NEEDED, PRESENCE_NEEDED = 0.70, 0.90  # below these running shares the mark gets louder again, above softer


@dataclass(frozen=True)
class Plan:
    """What to train and how. The defaults are the recipe of the shipped weights.

    Attributes:
        batch: Cuts in one step once the bits have come; twice as many of half the length before.
        cut_seconds: Length of a cut once the bits have come.
        learning_rate: Of Adam, at the first step.
        halving_steps: Steps in which the learning rate halves.
        start_db: Speech over mark at the first step.
        target_db: Speech over mark that the controller does not go beyond.
        step_db: Most that the level moves in one step.
        edits_from_db: Edits begin once the level has come this far; crops begin with the teaching of presence.
        shape_weight: Weight of the spectral loss, used from `edits_from_db` on.
    """

    size: NetworkSize = field(default_factory=NetworkSize)
    seed: int = 1
    batch: int = 16
    cut_seconds: float = 0.512
    learning_rate: float = 1e-3
    halving_steps: int = 2_000
    start_db: float = -8.0
    target_db: float = 20.0
    step_db: float = 0.08
    edits_from_db: float = 0.0
    shape_weight: float = 0.05


@dataclass
class Progress:
    """Where a run stands: saved with the weights, and handed to whoever shows it."""

    step: int = 0
    snr_db: float = 0.0
    bits: float = 0.5  # running mean of the share of bits read right, edited cuts included
    presence: float = 0.5  # the same for samples whose presence is told right
    loss: float = 0.0
    settled: bool = False  # the bits have come: from here on presence is taught too


class Trainer:
    """One run in one folder: `checkpoint.pt` (to resume from) and `log.jsonl` (one line each 20 steps)."""

    def __init__(self, plan: Plan, speech: Speech, folder: Path) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.speech = speech
        self.folder = folder
        self.networks = Networks(plan.size)
        self.optimiser = torch.optim.Adam(self.networks.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
        self.progress = Progress(snr_db=plan.start_db)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.pt").is_file():
            self._resume()

    def run(self, until: Callable[[Progress], bool], show: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Train until `until` says so, saving every two minutes and at the end."""
        saved = time.monotonic()
        while not until(self.progress):
            self.step()
            if self.progress.step % LOG_EVERY == 0:
                self._log()
                show(self.progress)
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.progress

    def step(self) -> None:
        """One batch: mark, hide parts of the mark, edit, look, learn, move the level."""
        plan, progress = self.plan, self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = plan.learning_rate * 0.5 ** (progress.step / plan.halving_steps)
        rng = np.random.default_rng((plan.seed, progress.step))
        more = 1 if progress.settled else 2  # many messages teach the bits, long cuts teach presence
        batch, samples = plan.batch * more, int(plan.cut_seconds * SAMPLE_RATE) // more
        waves = torch.from_numpy(self.speech.batch(batch, samples, rng))
        message = torch.from_numpy(rng.integers(0, 2, (batch, plan.size.nbits)))
        present = torch.from_numpy(_masks(batch, samples, rng)) if progress.settled else torch.ones_like(waves)
        spread = torch.from_numpy(rng.uniform(-3, 2, batch).astype(np.float32))
        mark = set_level(self.networks.raw_mark(waves, message), waves, progress.snr_db + spread)
        heard = waves + mark * present
        editing = progress.snr_db >= plan.edits_from_db
        if editing:
            heard = _edited(heard, rng)
        shifts = _shifts(batch, rng) if progress.settled else np.zeros(batch, dtype=np.int64)
        heard, present = crop(heard, present, shifts)
        logits = self.networks.look(heard)
        losses, bits, presence = _losses(logits, present, message, torch.from_numpy(shifts == 0))
        if editing:
            losses = losses + plan.shape_weight * _shape_loss(mark, waves)
        self.optimiser.zero_grad(set_to_none=True)
        losses.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        self.optimiser.step()
        self._move(float(losses.detach()), bits, presence)

    def _move(self, loss: float, bits: float, presence: float) -> None:
        progress, plan = self.progress, self.plan
        progress.bits += 0.02 * (bits - progress.bits)
        progress.presence += 0.02 * (presence - progress.presence)
        progress.loss = loss
        progress.step += 1
        progress.settled = progress.settled or progress.bits > SETTLED
        if progress.settled:
            margin = min((progress.bits - BITS_NEEDED) / 0.04, (progress.presence - PRESENCE_NEEDED) / 0.04)
            level = progress.snr_db + plan.step_db * min(1.0, max(-0.5, margin))
            progress.snr_db = min(plan.target_db, max(plan.start_db, level))

    def save(self) -> None:
        """Write the checkpoint so that a crash leaves the old one or the new one, never half of one."""
        state = {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "plan": _plain(self.plan),
        }
        half = self.folder / "checkpoint.pt.half"
        torch.save(state, half)
        os.replace(half, self.folder / "checkpoint.pt")  # noqa: PTH105 - atomic replacement, said plainly

    def _resume(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        if state["plan"] != _plain(self.plan):
            raise ValueError(f"{self.folder} holds a run of another plan: {state['plan']}")
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])

    def _log(self) -> None:
        line = json.dumps({"time": round(time.time(), 1), **asdict(self.progress)})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _plain(plan: Plan) -> dict[str, Any]:
    """The plan as lists, dictionaries and numbers, the way JSON would give it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return plain


def _masks(batch: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Where the mark stays: everywhere (half of the cuts), nowhere (a quarter), or in one span of the cut."""
    masks = np.ones((batch, samples), dtype=np.float32)
    for row in range(batch // 2, batch):
        if row % 2:
            masks[row] = 0
            continue
        start, end = sorted(rng.integers(0, samples, 2))
        outside = bool(rng.integers(0, 2))
        masks[row, start:end] = 0 if outside else 1
        if not outside:
            masks[row, :start] = 0
            masks[row, end:] = 0
    return masks


def _shifts(batch: int, rng: np.random.Generator) -> np.ndarray:
    """Samples cut off the front of each cut: none of two neighbours, then up to 100 ms of the next two, and so on.

    Presence has to be told at any offset from the generator's 20 ms grid. Bits are taught on the grid only: bits at
    all offsets did not come at this size and in this time.
    """
    shifts = rng.integers(0, MOST_SHIFT, batch)
    shifts[np.arange(batch) // 2 % 2 == 0] = 0
    return shifts


def _edited(heard: Tensor, rng: np.random.Generator) -> Tensor:
    """Deal the cuts into four hands and edit each hand in its own way."""
    order = torch.from_numpy(rng.permutation(heard.shape[0]))
    hands = [EDITS[int(rng.integers(len(EDITS)))](heard[part], rng) for part in order.chunk(4)]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.cat(hands)[back]


def _losses(logits: Tensor, present: Tensor, message: Tensor, aligned: Tensor) -> tuple[Tensor, float, float]:
    """Cross-entropy of presence for each sample and of bits for each aligned cut; and the share of both told right."""
    presence_logit = logits[:, 1] - logits[:, 0]
    localisation = functional.binary_cross_entropy_with_logits(presence_logit, present)
    marked = present.sum(dim=-1)
    readable = aligned & (marked > 0.2 * present.shape[-1])
    mean = (logits[:, 2:] * present.unsqueeze(1)).sum(dim=-1) / marked.clamp(min=1).unsqueeze(1)
    decoding = functional.binary_cross_entropy_with_logits(mean[readable], message[readable].float())
    right = ((mean[readable] > 0) == (message[readable] > 0)).float().mean()
    told = ((presence_logit > 0) == (present > 0)).float().mean()
    return decoding + 0.5 * localisation, float(right), float(told)


def _shape_loss(mark: Tensor, waves: Tensor) -> Tensor:
    """Decibels by which the mark comes nearer than 10 dB to the speech, over bands of 250 Hz and 32 ms."""
    window = torch.hann_window(512)

    def bands(signal: Tensor) -> Tensor:
        power = torch.stft(signal, 512, 256, window=window, return_complex=True).abs().square()
        return 10 * torch.log10(functional.avg_pool1d(power.transpose(1, 2)[..., 1:], 8) + 1e-6)

    return functional.relu(bands(mark) - bands(waves) + 10).mean() / 10

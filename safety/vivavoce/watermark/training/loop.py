"""The training loop: bits first and loud, then the mark is turned down as fast as bits and presence allow.

Learning presence, bits and quietness at once collapses: presence comes, bits stay at chance. So the level is no
loss but a controlled figure: it starts with the mark louder than the speech, and a controller lowers it by a little
at each step at which the networks still read it, and raises it when they don't. Step n draws everything from
(seed, n), so that a resumed run goes on exactly as an uninterrupted one would.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivavoce.watermark.level import set_level
from vivavoce.watermark.networks import SAMPLE_RATE, Networks, NetworkSize
from vivavoce.watermark.training import losses
from vivavoce.watermark.training.codecs import named
from vivavoce.watermark.training.curve import draw
from vivavoce.watermark.training.cuts import UNMARKED, Cuts, draw_masks, draw_messages, draw_starts, joined, spoken
from vivavoce.watermark.training.data import Speech
from vivavoce.watermark.training.edits import Editor

SAVE_SECONDS = 120.0
LOG_EVERY = 20  # steps
SETTLED = 0.93  # share of bits read right at which they have come
DISGUISED = 0.3  # share of steps whose speech goes through a disguise first
HANDS = 4  # parts of a batch, each edited in its own way
# Bits are taught on the latent frames' grid, and to be mute off it: bits at all offsets did not come at this size (nor
# did bits 3 ms off), and a detector that is mute where it cannot read lets the reader find the grid.
NEARLY = 8  # samples off the grid that are neither
KEPT = 0.8  # share of a cut that the detector is shown: the rest is room for crops and for sped up sound


@dataclass(frozen=True)
class Plan:
    """What to train and how. The defaults are what the stages of the shipped weights came to.

    Attributes:
        batch: Cuts in one step once the bits have come; twice as many of half the length before.
        cut_seconds: Length of a cut once the bits have come.
        learning_rate: Of Adam, at the first step.
        halving_steps: Steps in which the learning rate halves.
        start_db: Speech over mark at the first step.
        target_db: Speech over mark that the controller does not go beyond.
        step_db: Most that the level moves in one step.
        bits_needed: Share of bits read right, below which the mark gets louder again, above softer.
        presence_needed: The same for the samples whose presence is told right.
        edits_from_db: Edits begin once the level has come this far; crops begin with the teaching of presence.
        presence_weight: Weight of presence; the bits have 1.
        spectral_weight: Weight of the spectral loss, used from `edits_from_db` on.
        edits: Edits from outside that the marks are to survive, `package.module:function`.
        disguises: The same for what speech is put through before it is marked (or not), now and then: its traces are
            not to be taken for the mark. What no mark survives belongs here, not among the edits: there, it would
            teach that its traces are a mark.
    """

    size: NetworkSize = field(default_factory=NetworkSize)
    seed: int = 1
    batch: int = 16
    cut_seconds: float = 1.28
    learning_rate: float = 1e-3
    halving_steps: int = 2_500
    start_db: float = -8.0
    target_db: float = 21.0
    step_db: float = 0.04
    bits_needed: float = 0.75
    presence_needed: float = 0.80
    edits_from_db: float = 0.0
    presence_weight: float = 1.0
    spectral_weight: float = 0.1
    edits: tuple[str, ...] = ()
    disguises: tuple[str, ...] = ()


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
    """One run in one folder.

    `checkpoint.pt` is resumed from, `log.jsonl` has one line each 20 steps, and `curve.svg` shows them.
    """

    def __init__(
        self,
        plan: Plan,
        speech: Speech,
        folder: Path,
        *,
        start: Networks | None = None,
        device: str = "cpu",
    ) -> None:
        """Begin a run, or go on with the one in `folder`.

        Args:
            plan: What to train and how.
            speech: To draw cuts from.
            folder: Of the run.
            start: Networks to begin with, whose bits have come; None begins with random ones.
            device: Where the networks live; the CPU's draws and edits are the same everywhere.
        """
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.speech = speech
        self.folder = folder
        self.device = device
        self._editor = Editor([named(name) for name in plan.edits])
        self._disguises = [named(name) for name in plan.disguises]
        self.networks = (start or Networks(plan.size)).train().requires_grad_(requires_grad=True).to(device)
        self.optimiser = torch.optim.Adam(self.networks.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
        self.progress = Progress(snr_db=plan.start_db, settled=start is not None)
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
        waves, mark, cuts = self._marked(rng)
        editing = progress.snr_db >= plan.edits_from_db
        cuts = self._shown(cuts, rng, editing=editing)
        logits = self.networks.look(cuts.waves)
        decoding, bits = losses.decoding(logits, cuts)
        localisation, presence = losses.localisation(logits, cuts)
        loss = decoding + plan.presence_weight * localisation
        if editing:
            loss = loss + plan.spectral_weight * losses.spectral_loss(waves + mark, waves)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        self.optimiser.step()
        self._move(float(loss.detach()), float(bits), float(presence))

    def _marked(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Cuts]:
        """float32[batch, samples] speech, its mark at the level that the run has come to, and the marked cuts."""
        plan, progress = self.plan, self.progress
        more = 1 if progress.settled else 2  # many messages teach the bits, long cuts teach presence
        batch, hop = plan.batch * more, plan.size.hop
        frames = int(plan.cut_seconds * SAMPLE_RATE) // more // hop
        waves = torch.from_numpy(self.speech.batch(batch, frames * hop, rng)).to(self.device)
        if self._disguises and rng.random() < DISGUISED:
            waves = self._disguises[int(rng.integers(len(self._disguises)))](waves, rng)
        messages, groups = (part.to(self.device) for part in draw_messages(batch, frames, plan.size.nbits, rng))
        spread = torch.from_numpy(rng.uniform(-3, 2, batch).astype(np.float32)).to(self.device)
        mark = set_level(self.networks.raw_mark(waves, spoken(messages, groups)), waves, progress.snr_db + spread)
        truth = groups.repeat_interleave(hop, dim=1)
        if progress.settled:
            truth = truth.masked_fill(~draw_masks(batch, frames * hop, rng).to(self.device), UNMARKED)
        readable = torch.ones(batch, dtype=torch.bool, device=self.device)
        cuts = Cuts(waves, truth, messages, readable, ~readable)
        return waves, mark, replace(cuts, waves=waves + mark * cuts.present)

    def _shown(self, cuts: Cuts, rng: np.random.Generator, *, editing: bool) -> Cuts:
        """What the detector gets to see: each hand of the batch edited in its own way, and a window of each row."""
        if not self.progress.settled:
            return self._editor.edited(cuts, rng) if editing else cuts
        samples, shown = int(cuts.waves.shape[-1] * KEPT), []
        for hand in torch.from_numpy(rng.permutation(len(cuts.waves))).to(self.device).chunk(HANDS):
            part = self._editor.edited(cuts.rows(hand), rng) if editing else cuts.rows(hand)
            starts, off = draw_starts(len(hand), part.waves.shape[-1] - samples, self.plan.size.hop, rng)
            starts, off = starts.to(self.device), off.to(self.device)
            shown.append(part.window(starts, samples, taught=off == 0, mute=off > NEARLY))
        return joined(shown)

    def _move(self, loss: float, bits: float, presence: float) -> None:
        progress, plan = self.progress, self.plan
        if not math.isnan(bits):
            progress.bits += 0.02 * (bits - progress.bits)
        progress.presence += 0.02 * (presence - progress.presence)
        progress.loss = loss
        progress.step += 1
        progress.settled = progress.settled or progress.bits > SETTLED
        if progress.settled:
            margin = min((progress.bits - plan.bits_needed) / 0.04, (progress.presence - plan.presence_needed) / 0.04)
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
        if (self.folder / "log.jsonl").is_file():
            draw(self.folder / "log.jsonl", self.folder / "curve.svg")
        half = self.folder / "checkpoint.pt.half"
        torch.save(state, half)
        os.replace(half, self.folder / "checkpoint.pt")  # noqa: PTH105 - atomic replacement, said plainly

    def _resume(self) -> None:
        state = read_checkpoint(self.folder)
        if state["plan"] != _plain(self.plan):
            raise ValueError(f"{self.folder} holds a run of another plan: {state['plan']}")
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])

    def _log(self) -> None:
        line = json.dumps({"time": round(time.time(), 1), **asdict(self.progress)})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What `Trainer.save` wrote: networks, optimiser, progress and plan.

    Raises:
        ValueError: there is no run in this folder, or its checkpoint is broken.
    """
    try:
        state: dict[str, Any] = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no run") from error
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{folder}/checkpoint.pt is broken: {error}") from error
    missing = {"networks", "optimiser", "progress", "plan"} - set(state)
    if missing:
        raise ValueError(f"{folder}/checkpoint.pt is of no run: it has no {sorted(missing)}")
    return state


def _plain(plan: Plan) -> dict[str, Any]:
    """The plan as lists, dictionaries and numbers, the way JSON would give it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return plain

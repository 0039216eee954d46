"""The training loop that all three runs share: tokenizer stage 1, tokenizer stage 2, language model.

A task brings the losses; the loop brings what every run needs: gradient accumulation, clipping, a schedule,
an average of the weights, checkpoints that go on exactly where they stopped, a log and its curve, several processes.
Every random draw of a step comes from (seed, step, part, process), so nothing random has a state to save.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vivavoce.model.errors import ModelError
from vivavoce.model.training import distributed
from vivavoce.model.training.curve import draw

SAVE_SECONDS = 120.0
LOG_EVERY = 20  # steps
CHECKPOINT = "checkpoint.pt"


class Task(Protocol):
    """What is trained: its modules, the losses of a fresh batch, and what else must be saved."""

    @property
    def model(self) -> nn.Module:
        """All that the optimiser moves."""

    def losses(self, random: np.random.Generator, step: int) -> dict[str, Tensor]:
        """Weighted losses of a batch drawn from `random`; names that start with "_" are only shown."""

    def state_dict(self) -> dict[str, Any]:
        """What the task needs to go on, beside the model's own weights."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""

    def export(self, average: dict[str, Tensor], folder: Path) -> None:
        """Write the model with these weights as a checkpoint folder."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Attributes:
        steps: the schedule's end.
        rate: learning rate after the warm-up.
        warm_up: steps of linear growth.
        decay: share of the steps, at the end, in which the rate falls to nothing as half a cosine.
        accumulate: batches per step.
        average: decay per step of the moving average of the weights, which is what is exported.
    """

    steps: int
    seed: int = 1
    rate: float = 1e-3
    warm_up: int = 100
    decay: float = 0.5
    accumulate: int = 1
    average: float = 0.999
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-3

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        left = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.rate * min(1.0, (step + 1) / self.warm_up) * (1 - math.cos(math.pi * max(0.0, left))) / 2


@dataclass
class Progress:
    """Where a run stands: running means of its losses by name, and the seconds that it has computed."""

    step: int
    losses: dict[str, float]
    seconds: float


class Loop:
    """One run in one folder: `checkpoint.pt` is gone on from, `log.jsonl` and `curve.svg` show it."""

    def __init__(self, task: Task, plan: Plan, folder: Path) -> None:
        """Begin a run, or go on with the one in `folder`.

        Raises:
            ModelError: the folder holds a run with another seed.
        """
        self.task, self.plan, self.folder = task, plan, folder
        self.parameters = [one for one in task.model.parameters() if one.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=plan.rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
        )
        self.average = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
        self.progress = Progress(0, {}, 0.0)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).is_file():
            self._resume()

    def run(self, until: Callable[[Progress], bool], show: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Train until `until` says so or the schedule ends, saving every two minutes and at the end."""
        saved = time.monotonic()
        while self.progress.step < self.plan.steps and not until(self.progress):
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
        """One optimiser step over `accumulate` batches."""
        started, plan, step = time.monotonic(), self.plan, self.progress.step
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate_at(step)
        self.optimiser.zero_grad(set_to_none=True)
        for part in range(plan.accumulate):
            random = np.random.default_rng((plan.seed, step, part, distributed.rank()))
            losses = self.task.losses(random, step)
            taught = torch.stack([value for name, value in losses.items() if not name.startswith("_")])
            (taught.sum() / plan.accumulate).backward()  # type: ignore[no-untyped-call]
            self._note(losses)
        distributed.average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self._follow()
        self.progress.step += 1
        self.progress.seconds += time.monotonic() - started

    def _note(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            new, known = float(value.detach()), self.progress.losses
            known[name] = known.get(name, new) + 0.02 * (new - known.get(name, new))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average: fast at first, so that it does not remember the random start."""
        weight = 1 - min(self.plan.average, (1 + self.progress.step) / (10 + self.progress.step))
        for name, value in self.task.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, weight)

    def save(self) -> None:
        """Write checkpoint, curve and exported model so that a crash leaves the old ones or the new ones."""
        if distributed.rank():
            return
        state = {
            "model": self.task.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "task": self.task.state_dict(),
            "progress": asdict(self.progress),
            "seed": self.plan.seed,
        }
        half = self.folder / f"{CHECKPOINT}.half"
        torch.save(state, half)
        half.replace(self.folder / CHECKPOINT)
        self.task.export(self.average, self.folder)
        if (self.folder / "log.jsonl").is_file():
            draw(self.folder / "log.jsonl", self.folder / "curve.svg")

    def _resume(self) -> None:
        state = torch.load(self.folder / CHECKPOINT, map_location=self.parameters[0].device, weights_only=True)
        if state["seed"] != self.plan.seed:
            raise ModelError(f"{self.folder} holds a run with seed {state['seed']}")
        try:
            self.task.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.folder} holds a run of another model: {error}") from error
        self.average = state["average"]
        self.task.load_state_dict(state["task"])
        self.progress = Progress(**state["progress"])

    def _log(self) -> None:
        if distributed.rank():
            return
        row = {"time": round(time.time(), 1), "step": self.progress.step, "rate": self.plan.rate_at(self.progress.step)}
        line = json.dumps(row | {name: round(value, 5) for name, value in self.progress.losses.items()})
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

"""Continuing many sequences in one batch; rows join and leave between two groups.

Each row is prefilled alone, so its prompt sees the same arithmetic as in a single run; then all rows advance by one
group per step, some with a text id, some with a patch. Every row draws from its own generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vivavoce.model.errors import ModelError
from vivavoce.model.grid import Groups, join_grid, split_grid
from vivavoce.model.qwen import KVCache
from vivavoce.model.sampling import Sampler, TaskSampling, uniform_numbers
from vivavoce.model.script import Script

if TYPE_CHECKING:
    from vivavoce.model.patch_lm import PatchLM

Finish = Literal["stop", "length", "broken"]


@dataclass(frozen=True)
class Continuation:
    """What to continue, and how.

    Attributes:
        prompt: grid int64[1 + channels, group_size * T].
        max_groups: groups to generate at most.
        sampling: how ids are drawn.
        stop_ids: text ids that end the row.
        generator: the row's own source of chance; None: the process's.
        min_groups: no stop id comes before so many groups.
        script: what each group must be, as far as it says; as long as `max_groups`.
    """

    prompt: Tensor
    max_groups: int
    sampling: TaskSampling
    stop_ids: frozenset[int]
    generator: torch.Generator | None = None
    min_groups: int = 0
    script: Script | None = None


@dataclass(eq=False)
class Row:
    """One sequence in the batch and what it has generated so far; "broken" when its numbers were not finite."""

    continuation: Continuation
    text: list[int] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    finished: Finish | None = None

    def grid(self) -> Tensor:
        """The continuation as a grid int64[1 + channels, group_size * n] on the CPU."""
        return join_grid(Groups(torch.tensor(self.text, dtype=torch.int64), torch.stack(self.codes)))

    def scripted(self, drawn: int) -> int:
        """The next text id: the script's, or the one drawn."""
        script = self.continuation.script
        return drawn if script is None else int(script.groups.text[len(self.text)])

    def given_patch(self) -> Tensor | None:
        """The next group's codes where a script gives them."""
        script = self.continuation.script
        if script is None or bool(script.free[len(self.text)]):
            return None
        return script.groups.codes[len(self.text)]

    def end_after(self, text_id: int) -> None:
        """Decide whether the group just added was the last."""
        script = self.continuation.script
        if len(self.text) == len(script) if script is not None else text_id in self.continuation.stop_ids:
            self.finished = "stop"
        elif len(self.text) >= self.continuation.max_groups:
            self.finished = "length"


@dataclass
class State:
    """What the batch carries from one group to the next: cache, text logits[rows, vocab], patch start[rows, width]."""

    cache: KVCache
    logits: Tensor
    start: Tensor

    def append(self, other: State) -> None:
        """Add the rows of another state behind the own ones."""
        self.cache.append(other.cache)
        self.logits = torch.cat((self.logits, other.logits))
        self.start = torch.cat((self.start, other.start))

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        self.cache.keep(rows)
        self.logits, self.start = self.logits[rows], self.start[rows]


class Decoder:
    """The running batch. Not for several threads: whoever owns the device owns this."""

    def __init__(self, model: PatchLM) -> None:
        self._model = model
        self._zeros = torch.tensor(model.config.zero_ids).repeat(model.config.group_size, 1)
        self._state: State | None = None
        self.rows: list[Row] = []

    @torch.inference_mode()
    def join(self, continuation: Continuation) -> Row:
        """Prefill a prompt and add its row to the batch.

        Raises:
            ModelError: a bad grid, or prompt and continuation do not fit the context.
        """
        groups = split_grid(continuation.prompt, self._model.config)
        self._check(continuation, len(groups))
        embedded = self._model.embed_groups(groups)[None]
        cache = KVCache(self._model.config.backbone, 1, embedded)
        joined = State(cache, *self._model.heads(self._model.model(embedded, cache)[:, -1]))
        if self._state is None:
            self._state = joined
        else:
            self._state.append(joined)
        row = Row(continuation)
        self.rows.append(row)
        return row

    def _check(self, continuation: Continuation, prompt_groups: int) -> None:
        if continuation.max_groups < 1:
            raise ModelError("max_new_groups must be at least 1")
        context = self._model.config.backbone.context
        if prompt_groups + continuation.max_groups > context:
            raise ModelError(
                f"{prompt_groups} groups of prompt and {continuation.max_groups} to generate exceed the context of "
                f"{context}"
            )
        if continuation.script is not None and len(continuation.script) != continuation.max_groups:
            raise ModelError("a script is as long as its output")

    def leave(self, row: Row) -> None:
        """Take a row out of the batch, finished or not."""
        self._keep([index for index, other in enumerate(self.rows) if other is not row])

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Advance every row by one group; rows that finished leave the batch and are returned."""
        broken = self._drop_broken()
        if self._state is None:
            return broken
        text = [row.scripted(drawn) for row, drawn in zip(self.rows, self._draw_text(self._state), strict=True)]
        codes = self._draw_patches(self._state, text)
        for row, text_id, patch in zip(self.rows, text, codes, strict=True):
            row.text.append(text_id)
            row.codes.append(patch)
            row.end_after(text_id)
        done = [row for row in self.rows if row.finished]
        going = [index for index, row in enumerate(self.rows) if not row.finished]
        if done:
            self._keep(going)
        if going:
            self._advance(self._state, Groups(torch.tensor([text[index] for index in going]), codes[going]))
        return broken + done

    def _drop_broken(self) -> list[Row]:
        """Rows whose numbers overflowed leave alone, before anything is drawn from them."""
        if self._state is None:
            return []
        sound: list[bool] = self._state.logits.isfinite().all(-1).tolist()
        if all(sound):
            return []
        broken = [row for row, good in zip(self.rows, sound, strict=True) if not good]
        for row in broken:
            row.finished = "broken"
        self._keep([index for index, good in enumerate(sound) if good])
        return broken

    def _draw_text(self, state: State) -> list[int]:
        rows, device = self.rows, state.logits.device
        sampler = Sampler([row.continuation.sampling.text for row in rows], device)
        numbers = [uniform_numbers(1, row.continuation.generator).to(device) for row in rows]
        picked: list[int] = sampler.pick(state.logits, torch.cat(numbers), self._forbidden(state)).tolist()
        return picked

    def _forbidden(self, state: State) -> Tensor | None:
        """bool[rows, vocab] of the text ids that may not come next; None where all may."""
        closed = torch.zeros(state.logits.shape, dtype=torch.bool)
        for row, line in zip(self.rows, closed, strict=True):
            if len(row.text) < row.continuation.min_groups:
                line[list(row.continuation.stop_ids)] = True
        return closed.to(state.logits.device) if bool(closed.any()) else None

    def _draw_patches(self, state: State, text: Sequence[int]) -> Tensor:
        """int64[rows, group_size, channels] on the CPU: a patch where the text id says so, else "zero" ids."""
        codes = self._zeros.repeat(len(text), 1, 1)
        speaking = []
        for index, (row, text_id) in enumerate(zip(self.rows, text, strict=True)):
            given = row.given_patch()
            if given is not None:
                codes[index] = given
            elif text_id == self._model.special.empty:
                speaking.append(index)
        if not speaking:
            return codes
        rows, start = [self.rows[index] for index in speaking], state.start[speaking]
        shape = codes.shape[1:]
        numbers = [uniform_numbers(shape.numel(), row.continuation.generator).view(shape) for row in rows]
        uniform = torch.stack([number.to(start.device) for number in numbers])
        sampler = Sampler([row.continuation.sampling.local for row in rows], start.device)
        codes[speaking] = self._model.decode_patches(start, sampler, uniform).cpu()
        return codes

    def _advance(self, state: State, groups: Groups) -> None:
        embedded = self._model.embed_groups(groups)[:, None]
        state.logits, state.start = self._model.heads(self._model.model(embedded, state.cache)[:, 0])

    def _keep(self, indices: list[int]) -> None:
        self.rows = [self.rows[index] for index in indices]
        if not self.rows:
            self._state = None
        elif self._state is not None:
            self._state.keep(indices)


def row_generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, rows: int
) -> list[torch.Generator | None]:
    """One generator per row: those given, or copies of the one given (a single row uses it itself).

    Raises:
        ModelError: as many generators as rows are needed.
    """
    if generator is None:
        return [None] * rows
    if isinstance(generator, torch.Generator):
        if rows == 1:
            return [generator]
        return [generator.clone_state() for _ in range(rows)]
    if len(generator) != rows:
        raise ModelError(f"{len(generator)} generators for {rows} prompts")
    return list(generator)

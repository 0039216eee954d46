"""Continuing many sequences in one batch; rows join and leave between two groups.

Prompts are taken in beside the steps of the others, in parts of fixed length, so that each sees the same arithmetic as
in a single run; then all rows advance by one group per step, some with a text id, some with a patch. Every row draws
from its own generator, a fixed count of numbers for each group. Where a call has too few rows for its arithmetic to be
that of a larger one (`packed.least_rows`), its first row is in it more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vivavoce.model.errors import ModelError
from vivavoce.model.grid import Groups, split_grid
from vivavoce.model.kv_blocks import blocks_for
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.rows import Continuation, Row
from vivavoce.model.sampling import Sampler

if TYPE_CHECKING:
    from vivavoce.model.patch_lm import PatchLM

PREFILL = 128  # groups of a prompt that are taken in between two steps of the batch
MOST_PREFILL = 1024  # of all prompts together
ROWS = 64  # of a batch, where nobody says how many


class Decoder:
    """The running batch. Not for several threads: whoever owns the device owns this.

    Args:
        model: the weights.
        rows: that the batch has at most.
        blocks: of keys and values (`kv_blocks.BLOCK` positions each); None: all rows may fill their context.

    Attributes:
        model: the weights as they are run.
        rows: those in the batch.
    """

    def __init__(self, model: PatchLM | PackedLM, rows: int = ROWS, blocks: int | None = None) -> None:
        self.model = model if isinstance(model, PackedLM) else PackedLM(model)
        self._most_rows = rows
        self._least_rows = self.model.least_rows or rows
        config = self.model.config
        self._pool = self.model.pool(blocks_for(config.backbone.context) * rows if blocks is None else blocks)
        self._zeros = torch.tensor(config.zero_ids).repeat(config.group_size, 1)
        self.rows: list[Row] = []

    def has_room(self, continuation: Continuation) -> bool:
        """Whether there is a place and blocks for this now."""
        size = continuation.prompt.shape[1] // self.model.config.group_size + continuation.max_groups
        return len(self.rows) < self._most_rows and blocks_for(size) <= self._pool.free

    @torch.inference_mode()
    def join(self, continuation: Continuation) -> Row:
        """Add a row to the batch; its prompt is taken in by the next steps.

        Raises:
            ModelError: a bad grid, prompt and continuation do not fit the context, or there is no room.
        """
        groups = split_grid(continuation.prompt, self.model.config)
        self._check(continuation, len(groups))
        if len(self.rows) >= self._most_rows:
            raise ModelError(f"a batch of {self._most_rows} rows is full")
        row = Row(continuation, groups, self._pool.promise(len(groups) + continuation.max_groups))
        self.rows.append(row)
        return row

    def _check(self, continuation: Continuation, prompt_groups: int) -> None:
        if continuation.max_groups < 1:
            raise ModelError("max_new_groups must be at least 1")
        context = self.model.config.backbone.context
        if prompt_groups + continuation.max_groups > context:
            raise ModelError(
                f"{prompt_groups} groups of prompt and {continuation.max_groups} to generate exceed the context of "
                f"{context}"
            )
        if continuation.script is not None and len(continuation.script) != continuation.max_groups:
            raise ModelError("a script is as long as its output")

    def leave(self, row: Row) -> None:
        """Take a row out of the batch, finished or not."""
        self.rows = [other for other in self.rows if other is not row]
        self._pool.give_back(row.cache)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Advance every row by one group, and prompts by one part; rows that ended leave and are returned."""
        prompts = self._next_prompts()
        for together in [prompts] if self.model.least_rows else [[row] for row in prompts]:
            _each_or_alone(self._take_in, together)
        _each_or_alone(self._advance, [row for row in self.rows if row.heads is not None and not row.at_rest])
        done = [row for row in self.rows if row.finished]
        for row in done:
            self.leave(row)
        return done

    def _next_prompts(self) -> list[Row]:
        """Prompts of which a part is taken in now, in the order in which they came.

        One part's worth where rows are being continued, for they wait meanwhile; more where more wait to begin.
        """
        waiting = [row for row in self.rows if row.prompt is not None]
        going = max(1, len(self.rows) - len(waiting))
        left = min(MOST_PREFILL, PREFILL * max(1, len(waiting) // going))
        chosen = []
        for row in waiting:
            left -= min(PREFILL, len(row.prompt or ()))
            if left < 0:
                break
            chosen.append(row)
        return chosen

    def _take_in(self, rows: Sequence[Row]) -> None:
        """Take in one part of each row's prompt; where this raises, no row has changed."""
        split = [row.prompt.parted(PREFILL) for row in rows if row.prompt is not None]
        if not split:
            return
        heads = self.model.prefill(self._pool, [(part, row.cache) for (part, _), row in zip(split, rows, strict=True)])
        for row, (part, rest), own in zip(rows, split, zip(*heads, strict=True), strict=True):
            row.cache.length += len(part)
            row.prompt = rest
            row.heads = own if rest is None else None

    def _advance(self, rows: Sequence[Row]) -> None:
        """Add one group to each row; where this raises, no row has changed."""
        rows = _finite(rows)
        if not rows:
            return
        logits, start = _heads(rows)
        shape = self._zeros.shape
        numbers = torch.stack([row.numbers(1 + shape.numel()) for row in rows]).to(logits.device)
        text = self._draw_text(rows, logits, numbers[:, 0])
        codes = self._draw_patches(rows, start, numbers[:, 1:].view(-1, *shape), text)
        going = [index for index, row in enumerate(rows) if not row.end_after(text[index])]
        if going:
            repeated = self._at_least(going)
            groups = Groups(torch.tensor([text[index] for index in repeated]), codes[repeated])
            heads = self.model.step(self._pool, groups, [rows[index].cache for index in repeated])
            for index, own_logits, own_start in zip(going, *heads, strict=False):
                rows[index].heads = own_logits, own_start
                rows[index].cache.length += 1
        for row, text_id, patch in zip(rows, text, codes, strict=True):
            row.add(text_id, patch)

    def _draw_text(self, rows: Sequence[Row], logits: Tensor, numbers: Tensor) -> list[int]:
        sampler = Sampler([row.continuation.sampling.text for row in rows], logits.device)
        drawn: list[int] = sampler.pick(logits, numbers, _forbidden(rows, logits)).tolist()
        return [row.scripted(text_id) for row, text_id in zip(rows, drawn, strict=True)]

    def _draw_patches(self, rows: Sequence[Row], start: Tensor, numbers: Tensor, text: Sequence[int]) -> Tensor:
        """int64[rows, group_size, channels] on the CPU: a patch where the text id says so, else "zero" ids."""
        codes = self._zeros.repeat(len(rows), 1, 1)
        speaking = []
        for index, (row, text_id) in enumerate(zip(rows, text, strict=True)):
            given = row.given_patch()
            if given is not None:
                codes[index] = given
            elif text_id == self.model.special.empty:
                speaking.append(index)
        if speaking:
            repeated = self._at_least(speaking)
            sampler = Sampler([rows[index].continuation.sampling.local for index in repeated], start.device)
            codes[repeated] = self.model.patches.draw(start[repeated], sampler, numbers[repeated]).cpu()
        return codes

    def _at_least(self, indices: list[int]) -> list[int]:
        """These rows, the first of them as often again as a call needs rows."""
        return indices + indices[:1] * max(0, self._least_rows - len(indices))


def _each_or_alone(act: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> None:
    """Act on rows together; if that fails it is somebody's fault: each alone, and only who fails again has failed."""
    try:
        act(rows)
    except Exception:
        for row in rows:
            try:
                act([row])
            except Exception as error:
                row.fail(error)


def _heads(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    heads = [row.heads for row in rows if row.heads is not None]
    return torch.stack([logits for logits, _ in heads]), torch.stack([start for _, start in heads])


def _finite(rows: Sequence[Row]) -> list[Row]:
    """Rows whose numbers are finite; the others end, before anything is drawn from them."""
    if not rows:
        return []
    for row, good in zip(rows, _heads(rows)[0].isfinite().all(-1).tolist(), strict=True):
        if not good:
            row.finished = "broken"
    return [row for row in rows if not row.finished]


def _forbidden(rows: Sequence[Row], logits: Tensor) -> Tensor | None:
    """bool[rows, vocab] of the text ids that may not come next; None where all may."""
    closed = torch.zeros(logits.shape, dtype=torch.bool)
    for line, row in zip(closed, rows, strict=True):
        wish = row.continuation
        if wish.reading is not None:
            line[:] = True
            line[list(wish.reading.open_ids(row.text))] = False
        if len(row.text) < wish.min_groups:
            line[list(wish.stop_ids)] = True
    return closed.to(logits.device) if bool(closed.any()) else None


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

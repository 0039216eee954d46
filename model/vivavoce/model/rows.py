"""The sequences of a batch: what each asks for, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vivavoce.model.grid import Groups, join_grid
from vivavoce.model.kv_blocks import RowCache
from vivavoce.model.sampling import TaskSampling, uniform_numbers

if TYPE_CHECKING:
    from vivavoce.model.script import Reading, Script

Finish = Literal["stop", "length", "broken", "failed"]


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
        reading: which text ids may come next.
    """

    prompt: Tensor
    max_groups: int
    sampling: TaskSampling
    stop_ids: frozenset[int]
    generator: torch.Generator | None = None
    min_groups: int = 0
    script: Script | None = None
    reading: Reading | None = None


@dataclass(eq=False)
class Row:
    """One sequence in the batch and what it has generated so far.

    Attributes:
        finished: why it ended; "broken": its numbers were not finite; "failed": see `error`.
        prompt: what is still to be taken in; None when the row is being continued.
        cache: its keys and values.
        heads: text logits[vocab] and start[width] of the next patch.
    """

    continuation: Continuation
    prompt: Groups | None
    cache: RowCache
    text: list[int] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    finished: Finish | None = None
    error: Exception | None = None
    heads: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    _numbers: Tensor | None = field(default=None, repr=False)

    def grid(self) -> Tensor:
        """The continuation as a grid int64[1 + channels, group_size * n] on the CPU."""
        return join_grid(Groups(torch.tensor(self.text, dtype=torch.int64), torch.stack(self.codes)))

    @property
    def at_rest(self) -> bool:
        """Whether steps leave it out."""
        return self.finished is not None

    def numbers(self, count: int) -> Tensor:
        """float64[count] that the next group is drawn with; the same until it is added, should a step be repeated."""
        if self._numbers is None:
            self._numbers = uniform_numbers(count, self.continuation.generator)
        return self._numbers

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

    def end_after(self, text_id: int) -> Finish | None:
        """Whether the row ends with this as its next group."""
        script, groups = self.continuation.script, len(self.text) + 1
        if groups == len(script) if script is not None else text_id in self.continuation.stop_ids:
            return "stop"
        reading = self.continuation.reading
        if reading is not None and reading.cut_after([*self.text, text_id]):
            return "length"
        return "length" if groups >= self.continuation.max_groups else None

    def add(self, text_id: int, patch: Tensor) -> None:
        """Append the next group."""
        self.finished = self.end_after(text_id)
        self.text.append(text_id)
        self.codes.append(patch)
        self._numbers = None

    def fail(self, error: Exception) -> None:
        """End the row with an error."""
        self.finished, self.error = "failed", error

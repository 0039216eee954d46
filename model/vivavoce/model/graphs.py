"""Calls whose shapes do not change, each recorded once as a CUDA graph and then replayed.

A step of one row launches some thousand kernels, each shorter than its launch. A graph launches them as one. What is
recorded reads its inputs from tensors of its own and must neither ask the host anything nor depend on Python's choices
beyond its key. Without capture the same calls run through the same tensors, so that a CPU can test all but the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Recording = Literal["off", "calls", "graphs"]
"""Calls of any shape; calls of few shapes through tensors of their own; the same, captured."""
Act = Callable[..., tuple[Tensor, ...]]

WARM_UPS = 2  # before a recording: kernels are chosen and workspaces made outside of it


class Recorded:
    """One function at fixed shapes.

    Args:
        act: maps tensors to tensors.
        like: tensors of the shapes, types and device that it is called with.
        memory: handle of the memory that CUDA graphs share, which is theirs in turn; None: nothing is captured.
    """

    def __init__(self, act: Act, like: Sequence[Tensor], memory: Any) -> None:  # noqa: ANN401 - torch's own opaque handle
        self._act = act
        self._inputs = [each.clone() for each in like]
        self._graph: torch.cuda.CUDAGraph | None = None
        if memory is not None:
            self._record(memory)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run on other numbers; the results stay what they are when it is run again."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        if self._graph is None:
            return self._act(*self._inputs)
        self._graph.replay()
        return tuple(each.clone() for each in self._made)

    def _record(self, memory: Any) -> None:  # noqa: ANN401 - as above
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._act(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory):
            self._made = self._act(*self._inputs)


class Recordings:
    """Recorded calls by shape; the first call of a shape records it.

    Args:
        capture: record CUDA graphs.
    """

    def __init__(self, *, capture: bool) -> None:
        self._memory = torch.cuda.graph_pool_handle() if capture else None
        self._calls: dict[Hashable, Recorded] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def run(self, key: Hashable, act: Act, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run a call; `key` is all that it depends on beside the tensors and their shapes."""
        whole = key, tuple((each.shape, each.dtype) for each in inputs)
        call = self._calls.get(whole)
        if call is None:
            call = self._calls[whole] = Recorded(act, inputs, self._memory)
        return call(inputs)

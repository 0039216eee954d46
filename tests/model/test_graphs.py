"""Recorded calls: through tensors of their own, few shapes, and on a GPU as graphs; they say what plain calls say."""

from __future__ import annotations

import pytest
import torch
from tests.model.tiny_lm import SHAPES, random_grid, tiny_lm

from vivavoce.model.generation import Decoder
from vivavoce.model.graphs import Recording
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import GREEDY, SPEECH, TaskSampling

WAYS = {"greedy": TaskSampling(GREEDY, GREEDY), "drawn": SPEECH}


def _run(lm: PatchLM, sampling: TaskSampling, recording: Recording) -> list[torch.Tensor]:
    decoder = Decoder(PackedLM(lm, recording=recording), rows=5)
    rows = []
    for seed in range(5):
        chance = torch.Generator().manual_seed(seed)
        prompt = random_grid(lm, 3 + 40 * (seed % 3), 4, seed)
        rows.append(decoder.join(Continuation(prompt, 12 + 9 * seed, sampling, frozenset(), chance)))
    while decoder.rows:
        decoder.step()
    return [row.grid() for row in rows]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_calls_say_what_plain_ones_say(shape: str, way: str) -> None:
    """Rows leave one by one, lengths pass a block's end, some speak and some do not."""
    lm = tiny_lm(shape)
    plain, recorded = _run(lm, WAYS[way], "off"), _run(lm, WAYS[way], "calls")
    for one, other in zip(plain, recorded, strict=True):
        assert torch.equal(one, other)


def test_few_shapes_are_recorded() -> None:
    """Two hundred steps of growing rows need no more recordings than powers of two fit between."""
    packed = PackedLM(tiny_lm(), recording="calls")
    decoder = Decoder(packed, rows=4)
    for seed in range(4):
        decoder.join(Continuation(random_grid(tiny_lm(), 3, 2, seed), 200, SPEECH, frozenset()))
    while decoder.rows:
        decoder.step()
    recordings = decoder._pool.recordings
    assert recordings is not None
    assert 0 < len(recordings) <= 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: nothing was captured in this run")
@pytest.mark.parametrize("way", WAYS)
def test_graphs_say_what_plain_calls_say(way: str) -> None:
    """The same codes with and without replay, in the precision that serves."""
    lm = tiny_lm("widths that are powers of two").to("cuda", torch.bfloat16)
    plain, recorded = _run(lm, WAYS[way], "calls"), _run(lm, WAYS[way], "graphs")
    for one, other in zip(plain, recorded, strict=True):
        assert torch.equal(one, other)

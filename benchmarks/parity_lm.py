"""Parity of the language model with the vectors of a folder (`lm-*` layout)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_rows import Row, close, identical
from vivavoce.model.checkpoint import load_config
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.sampling import GREEDY, Sampler


@torch.inference_mode()
def rows(folder: Path) -> list[Row]:
    """Compare embeddings, hidden states, logits, patches and greedy generation; alone and in a batch."""
    vectors = load_file(folder / "vectors.safetensors")
    steps = int(load_config(folder)["steps"])
    lm = PatchLM.from_pretrained(folder)
    size = lm.config.group_size
    grid = vectors["input_ids"]
    text_logits, local_hidden = lm(grid)
    generated = lm.generate(grid, steps)[0]
    table = [
        close("input_embeds", lm.embed(grid), vectors["input_embeds"]),
        close("hidden", lm.hidden(grid), vectors["hidden"]),
        close("text_logits", text_logits, vectors["text_logits"]),
        close("local_hidden", local_hidden, vectors["local_hidden"]),
        identical("last_local_tokens", _greedy_patch(lm, local_hidden[-1:]), vectors["last_local_tokens"]),
        identical("generated text", generated[0, ::size], vectors["generated"][0, ::size]),
        identical("generated codes", generated[1:], vectors["generated"][1:]),
    ]
    return table + _batch_rows(lm, grid, steps, vectors["generated"])


def _greedy_patch(lm: PatchLM, start: Tensor) -> Tensor:
    no_chance = torch.zeros(1, lm.config.group_size, lm.config.channels, dtype=torch.float64)
    return lm.decode_patches(start, Sampler([GREEDY], start.device), no_chance)[0]


def _batch_rows(lm: PatchLM, grid: Tensor, steps: int, generated: Tensor) -> list[Row]:
    """Prompts of different lengths together: the whole, one group of it, and two thirds."""
    size = lm.config.group_size
    groups = grid.shape[1] // size
    prompts = [grid, grid[:, :size], grid[:, : max(1, 2 * groups // 3) * size]]
    together = lm.generate(prompts, steps)
    table = [identical("batch: codes of the whole prompt", together[0][1:], generated[1:])]
    for index, prompt in enumerate(prompts):
        alone = lm.generate(prompt, steps)[0]
        name = f"batch: member of {prompt.shape[1] // size} groups alone"
        table.append(identical(name, together[index], alone))
    return table

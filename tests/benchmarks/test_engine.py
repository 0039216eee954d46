"""The baseline of the engine's benchmark does the engine's work: the same codes, whatever the shape of the model."""

from __future__ import annotations

import pytest
import torch
from tests.model.tiny_lm import SHAPES, tiny_lm

from vivavoce.model.grid import Groups, concatenate, speech_groups, text_groups
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.patch_lm import PatchLM

pytest.importorskip("transformers", reason="needs the extra bench")

from benchmarks.engine.__main__ import models, require_equal
from benchmarks.engine.eager import EagerLM
from benchmarks.engine.limits import step_bytes
from benchmarks.engine.systems import engine_decoder, run_eager, run_engine

from vivavoce.model import AudioTokenizer
from vivavoce.model.voice_model import default_folder


def _prompts(lm: PatchLM, rows: int) -> list[Groups]:
    made = []
    for row in range(rows):
        chance = torch.Generator().manual_seed(row)
        sizes = lm.config.zero_ids if min(lm.config.zero_ids) else lm.config.code_sizes
        codes = torch.stack([torch.randint(0, size, (6 * lm.config.group_size,), generator=chance) for size in sizes])
        speech = speech_groups(codes, lm.config, lm.special.empty)
        made.append(concatenate([text_groups([90, 3], lm.config), speech, text_groups([91], lm.config)]))
    return made


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_both_systems_give_the_same_codes(shape: str) -> None:
    """A comparison of speeds is one only where the work is the same."""
    lm = tiny_lm(shape)
    tokenizer = AudioTokenizer.from_pretrained(default_folder() / "tokenizer")
    asked = _prompts(lm, 3)
    ours, theirs = (
        run_engine(engine_decoder(PackedLM(lm), asked, 5), tokenizer, asked, 5),
        run_eager(EagerLM(lm), tokenizer, asked, 5),
    )
    require_equal(ours.codes, theirs.codes)
    assert ours.codes.shape == (3, 5, lm.config.group_size, lm.config.channels)
    assert len(ours.first_patch) == len(theirs.first_patch) == 3


def test_unequal_codes_end_the_benchmark() -> None:
    """The assertion is no decoration."""
    codes = torch.zeros(2, 3, 4, 8, dtype=torch.int64)
    other = codes.clone()
    other[1, 2, 0, 0] = 1
    with pytest.raises(SystemExit, match="row 1 differ from patch 2"):
        require_equal(other, codes)


def test_too_little_memory_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.engine.__main__.available_bytes", lambda _: 2**30)
    with pytest.raises(SystemExit, match=r"needs .* GiB on cpu, 1\.0 GiB are free"):
        models("7b", torch.device("cpu"))


def test_the_bytes_of_a_step_grow_with_rows_and_steps() -> None:
    """Weights are read once for all rows, keys and values by each; int8 reads a quarter of the weights."""
    lm = tiny_lm()
    one, two, small = (step_bytes(lm, rows, 10, width) for rows, width in ((1, 4), (2, 4), (1, 1)))
    kept = 2 * 2 * 2 * 16 * 10 * 4
    assert two - one == kept
    assert one - kept == 4 * (small - kept)

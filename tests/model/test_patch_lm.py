"""The language model: parity with the reference vectors, its cache, its batches, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from benchmarks.parity_lm import rows
from safetensors.torch import load_file, save_file
from tests.model.tiny_lm import BASE, SHAPES, SPECIAL, random_grid, tiny_lm
from tokenizers import AddedToken, Tokenizer, models

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder
from vivavoce.model.grid import Groups, join_grid, split_grid
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import GREEDY, Sampler, Sampling, TaskSampling

VECTORS = Path(__file__).parents[1] / "data" / "vectors"
CHANCE = TaskSampling(Sampling(temperature=0.8, top_k=40), Sampling(temperature=0.9, top_p=0.95))


@pytest.mark.parametrize("name", ["lm-a", "lm-b"])
def test_parity_with_the_reference_vectors(name: str) -> None:
    """Embeddings, hidden states and logits within 1e-4; patches and greedy generation identical."""
    failed = [row for row in rows(VECTORS / name) if not row.passed]
    assert not failed


def _by_recomputing(model: PatchLM, grid: torch.Tensor, steps: int) -> torch.Tensor:
    """Greedy generation with no backbone cache: the whole sequence anew for every group."""
    config = model.config
    start = grid.shape[1]
    for _ in range(steps):
        logits, local = model(grid)
        text = logits[-1].argmax()
        codes = torch.tensor(config.zero_ids).repeat(1, config.group_size, 1)
        if text == SPECIAL.empty:
            numbers = torch.zeros(codes.shape, dtype=torch.float64)
            codes = model.decode_patches(local[-1:], Sampler([GREEDY], local.device), numbers)
        grid = torch.cat((grid, join_grid(Groups(text[None], codes))), dim=1)
    return grid[:, start:]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cache_changes_nothing(shape: str) -> None:
    """In every shape: cached generation, alone and in a batch of other lengths, is what recomputing gives."""
    model = tiny_lm(shape)
    prompts = [random_grid(model, 3, 4), random_grid(model, 1, 0, 1), random_grid(model, 140, 9, 2)]
    together = model.generate(prompts, 12, stop_ids=())
    kinds = set()
    for prompt, found in zip(prompts, together, strict=True):
        assert torch.equal(found, _by_recomputing(model, prompt, 12))
        kinds |= set((found[0, :: model.config.group_size] == SPECIAL.empty).tolist())
    assert True in kinds, "no patch was generated: the test would show nothing"


@pytest.mark.parametrize("shape", ["base", "uneven delays", "zero id in the middle"])
def test_a_row_draws_as_if_alone(shape: str) -> None:
    """Sampled rows in a batch equal their single runs, although neighbours finish early or stay longer."""
    model = tiny_lm(shape)
    prompts = [random_grid(model, length, patches, length) for length, patches in ((2, 3), (30, 1), (5, 12), (1, 0))]
    together = model.generate(prompts, 25, CHANCE, (7, 11, 23), [torch.Generator().manual_seed(i) for i in range(4)])
    for seed, (prompt, found) in enumerate(zip(prompts, together, strict=True)):
        alone = model.generate(prompt, 25, CHANCE, (7, 11, 23), torch.Generator().manual_seed(seed))[0]
        assert torch.equal(found, alone)
    shared = model.generate(prompts, 8, CHANCE, (), torch.Generator().manual_seed(9))
    for prompt, found in zip(prompts, shared, strict=True):
        assert torch.equal(found, model.generate(prompt, 8, CHANCE, (), torch.Generator().manual_seed(9))[0])


def test_chance_comes_from_the_generator() -> None:
    """The same seed gives the same sounds, another seed others, and a second call goes on from the first."""
    model = tiny_lm()
    prompt = random_grid(model, 4, 4)
    generator = torch.Generator().manual_seed(1)
    first, second = (model.generate(prompt, 20, CHANCE, (), generator)[0] for _ in range(2))
    assert torch.equal(first, model.generate(prompt, 20, CHANCE, (), torch.Generator().manual_seed(1))[0])
    assert not torch.equal(first, second)
    pair = model.generate([prompt, prompt], 20, CHANCE, (), generator)
    assert not torch.equal(pair[0], model.generate([prompt, prompt], 20, CHANCE, (), generator)[0])


def test_zero_ids_are_never_drawn_and_text_groups_carry_them() -> None:
    """Patches hold real codes only, text groups nothing but "zero" ids, and both kinds occur."""
    model = tiny_lm("zero id in the middle")
    flat = TaskSampling(Sampling(temperature=3.0), Sampling(temperature=50.0))
    grids = model.generate([random_grid(model, n, 2, n) for n in range(1, 7)], 40, flat, (), torch.Generator())
    zeros = torch.tensor(model.config.zero_ids)
    seen = set()
    for grid in grids:
        groups = split_grid(grid, model.config)
        for text, codes in zip(groups.text, groups.codes, strict=True):
            speech = bool(text == SPECIAL.empty)
            seen.add(speech)
            assert bool((codes != zeros).all()) if speech else bool((codes == zeros).all())
    assert seen == {True, False}


def test_a_stop_id_ends_its_row_only_and_not_before_the_least_length() -> None:
    """The stop group is part of the output; the neighbour goes on; `min_new_groups` holds the stop back."""
    model = tiny_lm()
    prompts = [random_grid(model, 3, 4), random_grid(model, 8, 2, 5)]
    size = model.config.group_size

    def run(*which: int, stop_ids: tuple[int, ...], least: int = 0) -> list[torch.Tensor]:
        chance = [torch.Generator().manual_seed(index) for index in which]
        return model.generate([prompts[index] for index in which], 20, CHANCE, stop_ids, chance, least)

    free = run(0, 1, stop_ids=())
    texts = [grid[0, ::size].tolist() for grid in free]
    stop = next(text for text in texts[0] if text not in texts[1])
    ends = texts[0].index(stop) + 1
    first, second = run(0, 1, stop_ids=(stop,))
    assert torch.equal(first, free[0][:, : ends * size])
    assert torch.equal(second, free[1])
    held = run(0, stop_ids=(stop,), least=20)[0]
    assert held.shape[1] == 20 * size
    assert stop not in held[0, ::size].tolist()


def test_stop_is_the_end_of_speech_where_nothing_is_said() -> None:
    """Without stop ids given, `<|eostm|>` ends a row."""
    model = tiny_lm()
    model.lm_head.weight[SPECIAL.eostm] = 50 * model.hidden(random_grid(model, 3, 1))[-1]
    assert model.generate(random_grid(model, 3, 1), 9)[0][0, 0] == SPECIAL.eostm


BAD_GRIDS = {
    "floats": lambda grid: grid.float(),
    "a row too few": lambda grid: grid[:-1],
    "half a group": lambda grid: grid[:, :-1],
    "no group": lambda grid: grid[:, :0],
    "no matrix": lambda grid: grid[None],
    "a text id too high": lambda grid: grid.index_fill(1, torch.tensor([0]), 100),
    "a missing text id": lambda grid: grid.index_fill(1, torch.tensor([0]), -100),
    "a code too high": lambda grid: torch.cat((grid[:-1], grid[-1:] + 9)),
    "a negative code": lambda grid: torch.cat((grid[:-1], grid[-1:] - 9)),
}


@pytest.mark.parametrize("fault", BAD_GRIDS)
def test_a_bad_grid_is_refused(fault: str) -> None:
    """Every door says what is wrong instead of failing inside."""
    model = tiny_lm()
    grid = BAD_GRIDS[fault](random_grid(model, 3, 2))
    for door in (model.embed, model, lambda grid: model.generate([grid], 4)):
        with pytest.raises(ModelError):
            door(grid)


def test_more_than_the_context_holds_is_refused() -> None:
    """Prompt and continuation together may fill the context, and not exceed it."""
    model = tiny_lm()
    prompt = random_grid(model, 390, 0)
    assert prompt.shape[1] // 3 == 392
    assert model.generate(prompt, 8, stop_ids=())[0].shape[1] == 24
    with pytest.raises(ModelError, match="context"):
        model.generate(prompt, 9)
    with pytest.raises(ModelError, match="at least 1"):
        model.generate(prompt, 0)
    with pytest.raises(ModelError, match="generators"):
        model.generate([prompt], 1, generator=[])


def test_numbers_that_overflow_are_an_error() -> None:
    """Weights that give no finite logits are reported, not sampled from."""
    model = tiny_lm()
    model.model.norm.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match="finite"):
        model.generate(random_grid(model, 3, 2), 4)


def test_a_row_that_overflows_leaves_its_neighbour_alone() -> None:
    """Only the row whose numbers are not finite ends; the other goes on to what it gives alone."""
    model = tiny_lm()
    prompts = [random_grid(model, 3, 4), random_grid(model, 8, 2, 5)]
    decoder = Decoder(model)
    wishes = [Continuation(prompt, 6, TaskSampling(GREEDY, GREEDY), frozenset()) for prompt in prompts]
    broken, sound = (decoder.join(wish) for wish in wishes)
    decoder.step()
    assert broken.heads is not None
    with torch.inference_mode():
        broken.heads[0][7] = torch.nan
    assert decoder.step() == [broken]
    while decoder.rows:
        decoder.step()
    assert (broken.finished, sound.finished) == ("broken", "length")
    assert torch.equal(sound.grid(), model.generate(prompts[1], 6, stop_ids=())[0])


def _publish(model: PatchLM, folder: Path, config: dict[str, object], drop: str = "") -> None:
    """Write the published layout: flat configuration, two shards with an index, special ids in `tokenizer.json`."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != drop}
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    tokenizer = Tokenizer(models.BPE(vocab={f"w{i}": i for i in range(90)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>") for name in asdict(SPECIAL)])
    tokenizer.save(str(folder / "tokenizer.json"))


def test_the_published_layout_loads(tmp_path: Path) -> None:
    """Shards and names of special ids give the model that was saved; a tied head need not be stored."""
    for shape, drop in (("base", ""), ("tied embeddings", "lm_head.weight")):
        model = tiny_lm(shape)
        _publish(model, tmp_path / shape, BASE | SHAPES[shape], drop)
        loaded = PatchLM.from_pretrained(tmp_path / shape)
        assert loaded.special == SPECIAL
        prompt = random_grid(model, 4, 4)
        assert torch.equal(loaded.generate(prompt, 9, stop_ids=())[0], model.generate(prompt, 9, stop_ids=())[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"delay_pattern": "0-1"}, "delay_pattern"),
        ({"speech_zeroemb_idx": "21-12-8"}, "zero id"),
        ({"local_attn_heads": 5}, "heads"),
        ({"use_sliding_window": True}, "sliding"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"intermediate_size": 65}, "size mismatch"),
        ({"vocab_size": 95}, "outside the text vocabulary"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """Each fault of a folder is named."""
    config = {key: value for key, value in (BASE | change).items() if value is not None}
    _publish(tiny_lm(), tmp_path, config)
    with pytest.raises(CheckpointError, match=message):
        PatchLM.from_pretrained(tmp_path)


def test_a_missing_shard_and_a_missing_name_are_refused(tmp_path: Path) -> None:
    """A folder that lacks a shard or a special id does not load half."""
    _publish(tiny_lm(), tmp_path, BASE)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-2"):
        PatchLM.from_pretrained(tmp_path)
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"<\|sosp\|>"):
        PatchLM.from_pretrained(tmp_path)


def test_reference_vectors_hold_both_kinds_of_groups() -> None:
    """Guards the parity test itself: its vectors contain text and speech, in prompt and continuation."""
    for name in ("lm-a", "lm-b"):
        vectors = load_file(VECTORS / name / "vectors.safetensors")
        for key in ("input_ids", "generated"):
            assert 0 < (vectors[key][0, ::4] == 305).sum() < vectors[key].shape[1] // 4

"""What an engine must survive: little memory, memory that runs out for one, many jobs, and callers who go away."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.model.tiny_lm import random_grid, tiny_lm

from vivavoce.model.engine import Engine, GenerationCancelled, Idle
from vivavoce.model.generation import PREFILL, Decoder
from vivavoce.model.grid import Groups
from vivavoce.model.kv_blocks import BLOCK, BlockPool, BlocksShort, RowCache, blocks_for
from vivavoce.model.memory import MemoryShort, RowMemory, require_rows, require_weights, row_memory
from vivavoce.model.packed import MANY_ROWS, WIDEST, PackedLinear, Precision, least_rows, multiplies_int8
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.rows import Continuation, Row
from vivavoce.model.sampling import GREEDY, SPEECH, TaskSampling
from vivavoce.model.voice_model import Generated, Plan, Request, VoiceModel

PATIENCE = 300


class TinyVoice:
    """As much of a voice model as the engine asks for, over a tiny language model; a request is its seed."""

    def __init__(self) -> None:
        self.lm = tiny_lm("widths that are powers of two")
        self.packed = PackedLM(self.lm)

    def plan(self, request: Request) -> Plan:
        chance = torch.Generator().manual_seed(request.seed)
        wish = Continuation(random_grid(self.lm, 5, 3, request.seed), 12, SPEECH, frozenset(), chance)
        return Plan(wish, cast("Any", None))

    def read(self, plan: Plan, row: Row, hearing: None = None) -> Generated:
        return Generated(row.grid()[1].float(), 1, float(len(row.text)), "stop")


def _engine(rows: int = 4, blocks: int | None = None) -> tuple[Engine, TinyVoice]:
    voice = TinyVoice()
    return Engine(cast("VoiceModel", voice), rows, blocks), voice


def _request(seed: int) -> Request:
    return cast("Request", SimpleNamespace(seed=seed))


def _tensor_bytes() -> int:
    gc.collect()
    found = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in gc.get_objects()
        if type(one) is torch.Tensor
    }
    return sum(found.values())


def test_a_device_without_room_for_a_row_is_refused_and_more_rows_share() -> None:
    memory = row_memory(PackedLM(tiny_lm()), 3)
    assert memory.row == 2 * 2 * 2 * 16 * 7 * BLOCK * 4  # keys and values, layers, heads, width, blocks, float32
    assert RowMemory(100, 3, 10_000, 7).blocks == 3 * 7
    shared = RowMemory(100, 3, 300, 7)
    require_rows(shared, "VIVAVOCE_MODEL_FOLDER")
    assert shared.blocks == 2 * 7
    with pytest.raises(MemoryShort, match=r"VIVAVOCE_MODEL_FOLDER leaves .* one row at full context needs"):
        require_rows(RowMemory(100, 3, 124, 7), "VIVAVOCE_MODEL_FOLDER")


def test_a_row_takes_what_the_budget_says() -> None:
    """The budget is that of the tensors that are really made."""
    packed = PackedLM(tiny_lm())
    before = _tensor_bytes()
    pool = packed.pool(blocks_for(packed.config.backbone.context))
    assert pool.blocks == row_memory(packed, 1).row_blocks
    assert _tensor_bytes() - before == row_memory(packed, 1).row


def test_weights_larger_than_the_memory_are_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(2**43)  # sparse: takes no room
    with pytest.raises(MemoryShort, match=r"VIVAVOCE_MODEL_FOLDER=.* GiB of weights"):
        require_weights(tmp_path, torch.device("cpu"), "VIVAVOCE_MODEL_FOLDER")


def _left_after(jobs: int) -> int:
    """Bytes of all tensors once an engine has done these jobs and its thread, which holds the last row, has ended."""
    engine, _ = _engine()
    for start in range(0, jobs, 10):
        futures = [engine.submit(_request(seed)) for seed in range(start, start + 10)]
        assert all(future.result(PATIENCE).seconds == 12 for future in futures)
    del futures
    engine.close()
    return _tensor_bytes()


def test_memory_stays_flat_over_many_jobs() -> None:
    """After 100 jobs no tensor is left that was not there after the first few."""
    few = _left_after(10)
    assert _left_after(100) <= few + 1024


def test_a_cancelled_row_is_free_at_once() -> None:
    """With one row, the next request runs although the one before never ended."""
    engine, _ = _engine(rows=1)
    asked: list[None] = []

    def soon() -> bool:
        asked.append(None)
        return len(asked) > 4

    doomed, following = engine.submit(_request(1), soon), engine.submit(_request(2))
    with pytest.raises(GenerationCancelled):
        doomed.result(PATIENCE)
    assert following.result(PATIENCE).seconds == 12
    engine.close()
    assert len(asked) == 5


def test_memory_that_runs_out_for_one_request_fails_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its cache, or in the step that all share: the others get what they get alone."""
    engine, _ = _engine()
    alone = [engine.submit(_request(seed)).result(PATIENCE).wave for seed in range(4)]
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory")
    begin, step, made = BlockPool.promise, PackedLM.step, list[RowCache | None]()

    def promise(self: BlockPool, positions: int) -> RowCache:
        made.append(None)
        if len(made) == 2:
            raise out_of_memory
        made[-1] = begin(self, positions)
        return made[-1]

    def shared_step(self: PackedLM, pool: BlockPool, groups: Groups, caches: list[RowCache]) -> Any:
        if any(one is made[2] for one in caches if len(made) > 2):
            raise out_of_memory
        return step(self, pool, groups, caches)

    monkeypatch.setattr(BlockPool, "promise", promise)
    monkeypatch.setattr(PackedLM, "step", shared_step)
    futures = [engine.submit(_request(seed)) for seed in range(4)]
    errors = [future.exception(PATIENCE) for future in futures]
    engine.close()
    assert errors == [None, out_of_memory, out_of_memory, None]
    for index in (0, 3):
        assert torch.equal(futures[index].result().wave, alone[index])


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_a_row_does_not_depend_on_its_neighbours(precision: Precision) -> None:
    """Seven rows of unlike lengths, more or fewer blocks and patches at other times: each is what it is alone."""
    lm = tiny_lm("widths that are powers of two")
    packed = PackedLM(lm, precision)

    def run(seeds: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        decoder = Decoder(packed)
        rows = []
        for seed in seeds:
            chance = torch.Generator().manual_seed(seed)
            prompt = random_grid(lm, 4 + 70 * (seed % 4), 2, seed)
            rows.append(decoder.join(Continuation(prompt, 10 + 9 * seed, SPEECH, frozenset(), chance)))
        heads = {}
        while decoder.rows:
            for row in decoder.step():
                heads[id(row)] = row.heads
        return [(row.grid(), torch.cat(cast("Any", heads[id(row)]))) for row in rows]

    together = run(list(range(7)))
    for seed, (grid, numbers) in enumerate(together):
        alone, own_numbers = run([seed])[0]
        assert torch.equal(grid, alone)
        assert torch.equal(numbers, own_numbers), "the same codes, but by luck"


def test_products_are_asked_for_as_many_rows_as_make_them_alike() -> None:
    """What was measured holds for other numbers than those it was measured with."""
    linears = [PackedLinear(torch.randn(48, 64)), PackedLinear(torch.randn(100, 36))]
    least = least_rows(linears)
    assert least is not None
    for linear in linears:
        x = torch.randn(80, linear.shape[0])
        for rows in range(least, 80):
            assert torch.equal(linear(x[:rows]), linear(x)[:rows])


@pytest.mark.parametrize("integer", [False, True])
def test_whole_numbers_are_the_same_in_every_kernel(integer: bool) -> None:
    """Few rows, many rows and whole numbers multiplied in double precision: equal to the last bit."""
    if integer and not multiplies_int8():
        pytest.skip("this processor has no products of eight-bit integers")
    chance = torch.Generator().manual_seed(0)
    width = WIDEST // 32 * 32
    weight, x = torch.randn(48, width, generator=chance), torch.randn(3 * MANY_ROWS, width, generator=chance)
    x[0] = 0
    x[1] = weight[0] = 7.0  # every term as large as can be
    linear = PackedLinear(weight, None, "int8", integer=integer)
    assert linear.codes is not None
    many = linear(x)
    for rows in (1, 2, MANY_ROWS - 1, MANY_ROWS):
        assert torch.equal(linear(x[:rows]), many[:rows])
        assert torch.equal(linear.onto(many[:rows], x[:rows]), linear.onto(many, x)[:rows])
    step = x.abs().amax(1, keepdim=True).double() / 127
    sums = (x / step).round().nan_to_num().double() @ linear.codes.double().T
    scaled = sums * linear.scales.double()
    exact = (scaled if integer else scaled.bfloat16()) * step
    assert torch.allclose(many.double(), exact.double(), rtol=2**-20 if integer else 2**-7)
    near = x.double() @ weight.double().T
    assert float((many - near).norm() / near.norm()) < 0.02


def test_widths_that_the_kernel_reads_beyond_stay_full() -> None:
    """It reads past inputs of such widths, which now and then is a segmentation fault; and past `WIDEST` sums round."""
    for width in (24, 2048):
        assert PackedLinear(torch.randn(48, width), None, "int8", integer=False).codes is None


def test_blocks_that_are_free_again_are_taken_again() -> None:
    """A row is promised all that it can need, is refused where that is not there, and leaves nothing behind."""
    pool = PackedLM(tiny_lm()).pool(5)
    first, second = pool.promise(2 * BLOCK), pool.promise(2 * BLOCK + 1)
    assert pool.free == 0
    with pytest.raises(BlocksShort, match="need 1 blocks, 0 are free"):
        pool.promise(1)
    pool.grow(first, BLOCK)
    pool.grow(second, BLOCK + 1)
    assert (first.blocks, second.blocks) == ([0], [1, 2])
    pool.give_back(first)
    pool.give_back(first)
    assert pool.free == 2
    third = pool.promise(BLOCK)
    pool.grow(third, 1)
    assert third.blocks == [0]


def test_prompts_join_while_others_go_on() -> None:
    """A long prompt is taken in by parts: its neighbour gets a group in every step meanwhile."""
    lm = tiny_lm()
    decoder = Decoder(lm, rows=2)
    greedy = TaskSampling(GREEDY, GREEDY)
    early = decoder.join(Continuation(random_grid(lm, 3, 2), 30, greedy, frozenset()))
    decoder.step()
    late = decoder.join(Continuation(random_grid(lm, 2 * PREFILL, 9), 5, greedy, frozenset()))
    for steps in (2, 3):
        decoder.step()
        assert len(early.text) == steps
        assert not late.text
    decoder.step()
    assert (len(early.text), len(late.text)) == (4, 1)


def test_who_needs_more_blocks_than_are_free_waits_and_is_not_overtaken() -> None:
    """Two blocks: rows of one block run in pairs; one that is larger than all of them fails alone, at once."""
    engine, voice = _engine(rows=4, blocks=2)
    sizes = dict.fromkeys(range(6), 5) | {3: 2 * BLOCK}
    began: list[int] = []
    plan = voice.plan

    def sized(request: Request) -> Plan:
        planned = plan(request)
        prompt = random_grid(voice.lm, sizes[request.seed], 3, request.seed)
        return replace(planned, continuation=replace(planned.continuation, prompt=prompt))

    def note(seed: int) -> Callable[[], bool]:
        return lambda: bool(began.append(seed)) if seed not in began else False

    voice.plan = sized  # type: ignore[method-assign]
    futures = [engine.submit(_request(seed), note(seed)) for seed in sizes]
    errors = [future.exception(PATIENCE) for future in futures]
    engine.close()
    assert [type(error) for error in errors] == [BlocksShort if seed == 3 else type(None) for seed in sizes]
    assert engine.rows_peak == 2
    assert began == sorted(began)
    assert engine.waiting == 0


def test_an_idle_model_is_let_go_and_comes_back() -> None:
    """Never while a request is in use of it, however long that takes; the next request gets what the first got."""
    voice, loads = TinyVoice(), list[TinyVoice]()

    def load() -> VoiceModel:
        loads.append(TinyVoice())
        return cast("VoiceModel", loads[-1])

    engine = Engine(cast("VoiceModel", voice), 2, idle=Idle(0.05, load))
    held = threading.Event()

    def slowly() -> bool:
        held.wait(0.02)  # twelve groups of this are longer than the time after which the model goes
        return False

    first = engine.submit(_request(1), slowly).result(PATIENCE)
    assert not loads
    gone, patience = weakref.ref(voice.packed), time.monotonic() + PATIENCE
    del voice
    while (engine.loaded or gone() is not None) and time.monotonic() < patience:
        held.wait(0.01)
    assert not engine.loaded
    assert gone() is None, "unloaded, and still in memory"
    assert torch.equal(engine.submit(_request(1)).result(PATIENCE).wave, first.wave)
    assert len(loads) == 1
    engine.close()


def test_a_model_that_does_not_come_back_fails_its_request() -> None:
    """And the next request tries anew."""
    answers = iter([OSError("the disk is away"), None])

    def load() -> VoiceModel:
        error = next(answers)
        if error is not None:
            raise error
        return cast("VoiceModel", TinyVoice())

    engine = Engine(cast("VoiceModel", TinyVoice()), 2, idle=Idle(0.01, load))
    patience = time.monotonic() + PATIENCE
    while engine.loaded and time.monotonic() < patience:
        time.sleep(0.01)
    assert isinstance(engine.submit(_request(1)).exception(PATIENCE), OSError)
    assert engine.submit(_request(1)).result(PATIENCE).seconds == 12
    engine.close()

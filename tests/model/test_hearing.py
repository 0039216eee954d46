"""A sound heard while it is made: the same ids, each sample once and in order, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.model.tiny_lm import SPECIAL, random_grid, tiny_lm
from tests.model.tiny_tokenizer import tiny
from torch import Tensor

from vivavoce.model import hearing
from vivavoce.model.engine import Engine, GenerationCancelled
from vivavoce.model.errors import ModelError
from vivavoce.model.grid import Groups
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.rows import Continuation
from vivavoce.model.sampling import SPEECH
from vivavoce.model.script import Script
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.voice_model import Plan, Request, VoiceModel

PATIENCE = 30
GROUPS = 50
FRAMES = 3 * GROUPS
SAMPLES = 960


class TinyVoice(VoiceModel):
    """A voice model of random weights that speaks for as long as it is told to; a request is its seed."""

    def __init__(self) -> None:
        self.lm = tiny_lm("base")
        self.packed = PackedLM(self.lm)
        self.tokenizer = tiny(codebook_size=[20, 12, 8], num_quantizers=3)

    def plan(self, request: Request) -> Plan:
        chance = torch.Generator().manual_seed(request.seed)
        text = torch.full((GROUPS,), SPECIAL.empty)
        free = Groups(text, torch.zeros(GROUPS, 3, 3, dtype=torch.int64))
        script = Script(free, torch.ones(GROUPS, dtype=torch.bool))
        grid = random_grid(self.lm, 5, 3, request.seed)
        wish = Continuation(grid, GROUPS, SPEECH, frozenset(), chance, script=script)
        return Plan(wish, cast("Any", SimpleNamespace(opens_speech=True)))


@pytest.fixture(scope="module")
def voice() -> TinyVoice:
    return TinyVoice()


@pytest.fixture
def engine(voice: TinyVoice) -> Iterator[Engine]:
    engine = Engine(voice, max_rows=4)
    yield engine
    engine.close()


def request(seed: int = 1) -> Request:
    return cast("Request", SimpleNamespace(seed=seed))


def heard(engine: Engine, seed: int = 1) -> list[Tensor]:
    pieces: list[Tensor] = []
    made = engine.submit(request(seed), hear=pieces.append).result(PATIENCE)
    assert torch.equal(torch.cat(pieces), made.wave)
    return pieces


def without_norms(tokenizer: AudioTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    for upsampler in (tokenizer.decoder.dconv1, tokenizer.decoder.dconv2):
        monkeypatch.setattr(upsampler.norm, "forward", lambda x, lengths=None: x)


def test_pieces_come_while_the_sound_is_made(engine: Engine) -> None:
    ended: list[bool] = []
    future = engine.submit(request(), hear=lambda _: ended.append(future.done()))
    assert len(future.result(PATIENCE).wave) == FRAMES * SAMPLES
    assert len(ended) >= 4 and not any(ended)


def test_each_sample_is_heard_once_in_pieces_of_half_a_second_and_then_of_one(engine: Engine, voice: TinyVoice) -> None:
    held_back = voice.tokenizer.right_context
    frames = [len(piece) / SAMPLES for piece in heard(engine)]
    assert sum(frames) == FRAMES
    # A patch has three frames: the first piece is due with the first patch that completes it.
    assert hearing.FIRST_FRAMES <= frames[0] < hearing.FIRST_FRAMES + 3
    assert max(frames[:-1]) < hearing.PIECE_FRAMES + 3
    assert frames[-1] <= hearing.PIECE_FRAMES + 3 + held_back


def test_what_is_heard_is_what_is_made_but_for_the_norms_over_the_whole(
    engine: Engine, voice: TinyVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ids are drawn; with the norms out of the way, and nothing forgotten, every sample is the same."""
    without_norms(voice.tokenizer, monkeypatch)
    monkeypatch.setattr(hearing, "BEFORE", FRAMES)
    whole = engine.submit(request()).result(PATIENCE).wave
    assert (torch.cat(heard(engine)) - whole).abs().max() < 1e-4


def test_pieces_are_exactly_the_tokenizers_own_stream_of_the_ids(engine: Engine, voice: TinyVoice) -> None:
    """With them: bit for bit what the tokenizer's stream gives of the ids of a run that nobody heard."""
    decoded: list[Tensor] = []
    decode = voice.tokenizer.decode
    voice.tokenizer.decode = lambda codes: (decoded.append(codes), decode(codes))[1]  # type: ignore[method-assign]
    try:
        engine.submit(request()).result(PATIENCE)
    finally:
        del voice.tokenizer.decode
    (codes,) = decoded
    pieces, state = heard(engine), voice.tokenizer.stream(hearing.BEFORE)
    played = 0
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        ready = played + len(piece) // SAMPLES
        taken = FRAMES if last else ready + voice.tokenizer.right_context
        held = state.codes.shape[1] - state.played if state.codes is not None else 0
        chunk = codes[:, played + held : taken]
        assert torch.equal(voice.tokenizer.decode_chunk(chunk, state, last=last).clamp(-1, 1), piece)
        played = ready


def test_neighbours_and_hearers_share_a_batch_and_each_gets_its_own(engine: Engine) -> None:
    alone = engine.submit(request(2)).result(PATIENCE).wave
    one, other = torch.cat(heard(engine, 3)), torch.cat(heard(engine, 4))
    pieces: dict[int, list[Tensor]] = {3: [], 4: []}
    futures = [engine.submit(request(2)), *(engine.submit(request(seed), hear=pieces[seed].append) for seed in (3, 4))]
    wait(futures, PATIENCE)
    assert engine.rows_peak >= 2
    assert torch.allclose(futures[0].result().wave, alone, atol=1e-4)
    assert torch.allclose(torch.cat(pieces[3]), one, atol=1e-4)
    assert torch.allclose(torch.cat(pieces[4]), other, atol=1e-4)


def test_who_hears_and_fails_ends_its_own_request_only(engine: Engine) -> None:
    def refuse(_: Tensor) -> None:
        raise OSError("the listener has hung up")

    doomed, neighbour = engine.submit(request(1), hear=refuse), engine.submit(request(2), hear=lambda _: None)
    with pytest.raises(OSError, match="hung up"):
        doomed.result(PATIENCE)
    assert len(neighbour.result(PATIENCE).wave) == FRAMES * SAMPLES


def test_a_cancelled_request_is_heard_no_more(engine: Engine) -> None:
    pieces: list[Tensor] = []
    stop = threading.Event()

    def hear(piece: Tensor) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            stop.set()

    with pytest.raises(GenerationCancelled):
        engine.submit(request(), cancelled=stop.is_set, hear=hear).result(PATIENCE)
    assert len(pieces) == 2


def test_memory_that_runs_out_while_decoding_fails_nobody_else(
    engine: Engine, voice: TinyVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who are heard fit into memory one by one only: both are heard, each sample once."""
    one, decode = torch.cat(heard(engine, 1)), voice.tokenizer.decode_batch

    def short_of_memory(batch: list[Tensor]) -> list[Tensor]:
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        return decode(batch)

    monkeypatch.setattr(voice.tokenizer, "decode_batch", short_of_memory)
    pieces: dict[int, list[Tensor]] = {1: [], 2: []}
    futures = [engine.submit(request(seed), hear=pieces[seed].append) for seed in (1, 2)]
    assert {len(future.result(PATIENCE).wave) for future in futures} == {FRAMES * SAMPLES}
    assert torch.allclose(torch.cat(pieces[1]), one, atol=1e-4)


def test_a_sound_that_is_not_finite_is_not_heard(
    engine: Engine, voice: TinyVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = torch.full((FRAMES * SAMPLES,), torch.nan)
    monkeypatch.setattr(voice.tokenizer, "decode_batch", lambda batch: [broken for _ in batch])
    pieces: list[Tensor] = []
    with pytest.raises(ModelError, match="not finite"):
        engine.submit(request(), hear=pieces.append).result(PATIENCE)
    assert pieces == []

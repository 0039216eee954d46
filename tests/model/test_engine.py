"""The engine: requests of many threads in one batch, each as if alone; cancelling, failing and closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import soundfile
import torch

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.engine import Engine, GenerationCancelled
from vivavoce.model.errors import ModelError
from vivavoce.model.voice_model import (
    ConversionRequest,
    Generated,
    Reference,
    Request,
    SpeechRequest,
    VoiceModel,
    default_folder,
)

SPEECH = Path(__file__).parents[1] / "data" / "speech"
PATIENCE = 300  # seconds until a test gives up


def _reference(name: str, seconds: float) -> Reference:
    wave, rate = soundfile.read(SPEECH / f"{name}.flac", dtype="float32")
    return Reference(torch.from_numpy(wave[: int(seconds * rate)]), rate, "")


@pytest.fixture(scope="module")
def model() -> VoiceModel:
    """The checkpoint that ships."""
    return VoiceModel.from_pretrained(default_folder())


@pytest.fixture(scope="module")
def alone(model: VoiceModel) -> list[Generated]:
    """What each of REQUESTS gives when nothing else is in the batch."""
    engine = Engine(model, max_rows=1)
    made = [engine.submit(request).result(PATIENCE) for request in REQUESTS]
    engine.close()
    assert engine.rows_peak == 1
    return made


@pytest.fixture
def engine(model: VoiceModel) -> Iterator[Engine]:
    """An engine of four rows."""
    engine = Engine(model, max_rows=4)
    yield engine
    engine.close()


VOICE = (_reference("austen-0870", 1.5),)
OTHER = (_reference("goforward", 1.5),)
REQUESTS: list[Request] = [
    SpeechRequest("Hello there, how are you?", VOICE, 1),
    SpeechRequest("No, not today.", OTHER, 2),
    SpeechRequest("A rather longer sentence, which others will not wait for.", VOICE, 3),
    ConversionRequest(OTHER[0].wave, OTHER[0].sample_rate, VOICE, 4),
    SpeechRequest("Hello there, how are you?", VOICE, 5),
    SpeechRequest("Cut me off after one second of this long sentence.", VOICE, 6, max_seconds=1.0),
]


def test_many_threads_share_a_batch_and_each_gets_its_own_output(model: VoiceModel, alone: list[Generated]) -> None:
    """More requests than rows, from threads at once: every wave equals that of its run alone with the same seed."""
    together = Engine(model, max_rows=4)
    with ThreadPoolExecutor(len(REQUESTS)) as callers:
        found = list(callers.map(lambda request: together.submit(request).result(PATIENCE), REQUESTS))
    together.close()
    assert 1 < together.rows_peak <= 4
    for one, other in zip(found, alone, strict=True):
        assert torch.allclose(one.wave, other.wave, atol=1e-4)
        assert (one.seconds, one.finished) == (other.seconds, other.finished)
    assert not torch.equal(found[0].wave, found[4].wave)


def test_the_output_is_a_wave(alone: list[Generated]) -> None:
    """Mono, in range, at least half a second, as long as it says, and cut off only where that was asked for."""
    for request, made in zip(REQUESTS, alone, strict=True):
        assert made.wave.dtype == torch.float32
        assert made.wave.dim() == 1
        assert bool(made.wave.isfinite().all())
        assert float(made.wave.abs().max()) <= 1
        assert made.seconds == len(made.wave) / made.sample_rate >= 0.5
        assert made.finished == ("length" if isinstance(request, SpeechRequest) and request.max_seconds < 2 else "stop")
        if isinstance(request, ConversionRequest):
            assert abs(made.seconds - len(request.wave) / request.sample_rate) < 0.2
        if isinstance(request, SpeechRequest):
            assert made.seconds <= max(0.5, request.max_seconds) + 0.16


def test_cancelling_ends_one_request_between_two_patches(engine: Engine) -> None:
    """Once its question is answered by yes, a running request ends; its neighbour does not notice."""
    asked = []

    def after_five_groups() -> bool:
        asked.append(None)
        return len(asked) > 5

    doomed = engine.submit(SpeechRequest("This goes on and on. " * 9, VOICE, 1), after_five_groups)
    neighbour = engine.submit(REQUESTS[1])
    with pytest.raises(GenerationCancelled):
        doomed.result(PATIENCE)
    assert neighbour.result(PATIENCE).seconds > 0
    assert len(asked) == 6
    with pytest.raises(GenerationCancelled):
        engine.submit(REQUESTS[0], lambda: True).result(PATIENCE)


def test_one_of_two_like_requests_leaves_and_the_engine_goes_on(engine: Engine) -> None:
    """The same text with equal clips that are not the same object, as two jobs read them from the store."""
    asked = []

    def after_five_groups() -> bool:
        asked.append(None)
        return len(asked) > 5

    clips = [Reference(VOICE[0].wave.clone(), VOICE[0].sample_rate, VOICE[0].transcript) for _ in range(2)]
    first = engine.submit(SpeechRequest("This goes on and on. " * 4, (clips[0],), 1))
    second = engine.submit(SpeechRequest("This goes on and on. " * 4, (clips[1],), 1), after_five_groups)
    with pytest.raises(GenerationCancelled):
        second.result(PATIENCE)
    assert first.result(PATIENCE).seconds > 0


def test_a_cancelled_future_is_never_begun(model: VoiceModel) -> None:
    """What waits behind a full batch can be taken back, and close() does not wait for it."""
    engine = Engine(model, max_rows=1)
    running = threading.Event()
    hold = threading.Event()

    def held() -> bool:
        running.set()
        hold.wait(PATIENCE)
        return False

    first = engine.submit(REQUESTS[1], held)
    assert running.wait(PATIENCE)
    second = engine.submit(REQUESTS[0])
    assert second.cancel()
    hold.set()
    engine.close()
    assert first.result(0).seconds > 0
    assert second.cancelled()


def _broken_question() -> bool:
    raise OSError("the database is away")


BAD: dict[str, Request] = {
    "no text": SpeechRequest(" \n ", VOICE, 1),
    "no reference": SpeechRequest("Hello", (), 1),
    "an empty reference": SpeechRequest("Hello", (Reference(torch.zeros(0), 16000, ""),), 1),
    "a reference that is no number": SpeechRequest(
        "Hello", (Reference(torch.full((16000,), torch.nan), 16000, ""),), 1
    ),
    "a reference at no rate": SpeechRequest("Hello", (Reference(torch.zeros(16000), 0, ""),), 1),
    "no time": SpeechRequest("Hello", VOICE, 1, max_seconds=0.0),
    "a time that is no number": SpeechRequest("Hello", VOICE, 1, max_seconds=float("nan")),
    "a negative seed": SpeechRequest("Hello", VOICE, -1),
    "more than the context": SpeechRequest("word " * 1000, VOICE, 1, max_seconds=600.0),
    "nothing to convert": ConversionRequest(torch.zeros(0), 16000, VOICE, 1),
    "too little to convert": ConversionRequest(torch.randn(3000) / 9, 16000, VOICE, 1),
    "too much to convert": ConversionRequest(torch.randn(16000 * 120) / 9, 16000, VOICE, 1),
    "two channels": ConversionRequest(torch.randn(2, 16000), 16000, VOICE, 1),
}


def test_a_bad_request_fails_alone(engine: Engine, alone: list[Generated]) -> None:
    """Every fault is a ModelError of its own request; the good one beside them gets what it gets alone."""
    good = engine.submit(REQUESTS[0])
    futures = {fault: engine.submit(request) for fault, request in BAD.items()}
    away = engine.submit(REQUESTS[1], _broken_question)
    wait([*futures.values(), away, good], PATIENCE)
    for fault, future in futures.items():
        assert isinstance(future.exception(0), ModelError), fault
    assert isinstance(away.exception(0), OSError)
    assert torch.allclose(good.result(0).wave, alone[0].wave, atol=1e-4)


def test_a_batch_that_breaks_is_answered_and_the_engine_goes_on(model: VoiceModel) -> None:
    """An error in the middle of every step reaches all callers in the batch; the next request runs."""
    engine = Engine(model, max_rows=4)
    original = model.packed.patches.draw
    model.packed.patches.draw = lambda *_: (_ for _ in ()).throw(MemoryError("no memory left"))  # type: ignore[method-assign]
    try:
        broken = [engine.submit(request) for request in REQUESTS[:2]]
        for future in broken:
            assert isinstance(future.exception(PATIENCE), MemoryError)
    finally:
        model.packed.patches.draw = original  # type: ignore[method-assign]
    assert engine.submit(REQUESTS[1]).result(PATIENCE).seconds > 0
    engine.close()


def test_silence_is_an_error(model: VoiceModel, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wave that nobody can hear is not handed out as speech."""
    monkeypatch.setattr(model.tokenizer, "decode", lambda codes: torch.zeros(codes.shape[1] * 960))
    with pytest.raises(ModelError, match="silence"):
        engine.submit(REQUESTS[1]).result(PATIENCE)


def test_closing_finishes_what_was_taken(model: VoiceModel) -> None:
    """close() returns when every request is answered, may be called twice, and nothing is taken afterwards."""
    engine = Engine(model, max_rows=2)
    futures = [engine.submit(request) for request in REQUESTS[:3]]
    engine.close()
    engine.close()
    assert all(future.exception(0) is None for future in futures)
    with pytest.raises(ModelError, match="closed"):
        engine.submit(REQUESTS[0])


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """No profile, an unknown profile, a missing part: said at loading."""
    with pytest.raises(CheckpointError, match=r"profile\.json"):
        VoiceModel.from_pretrained(tmp_path)
    (tmp_path / "profile.json").write_text('{"model_id": "x", "profile": "mini"}')
    with pytest.raises(CheckpointError):
        VoiceModel.from_pretrained(tmp_path)

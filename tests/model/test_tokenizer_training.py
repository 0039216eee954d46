"""Training moves codebooks as it says, saves what loads, and a run that was stopped goes on as if it had not been."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.forks import FORKS

from vivavoce.model import AudioTokenizer
from vivavoce.model.errors import ModelError
from vivavoce.model.quantizer import ResidualQuantizer
from vivavoce.model.spoken import spoken
from vivavoce.model.training import adversarial, distributed
from vivavoce.model.training.clips import Clips, sources
from vivavoce.model.training.codebooks import CodebookTrainer
from vivavoce.model.training.loop import Loop, Plan
from vivavoce.model.training.phones import CLASSES, SILENCE, SLOTS, phone_class, place
from vivavoce.model.training.tokenizer import MINI, Recipe, Reconstruction

SPEECH = Path(__file__).parents[1] / "data" / "speech"
TINY: dict[str, Any] = MINI | {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "vocoder_num_layers": 1, "vocoder_dim": 32, "vocoder_intermediate_dim": 64, "codebook_size": [16, 16, *[8] * 6],
}  # fmt: skip
STEPS = 30


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _clusters(generator: torch.Generator, centres: torch.Tensor, count: int = 400) -> torch.Tensor:
    picked = centres[torch.randint(len(centres), (count,), generator=generator)]
    return picked + 0.01 * torch.randn(picked.shape, generator=generator)


def test_codebooks_start_on_the_clusters_and_follow_them() -> None:
    """k-means finds tight clusters; when all clusters move away, averages and replacement bring the entries after."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 4, generator=generator) * 3
    quantizer = ResidualQuantizer((32, 8), 4)
    trainer = CodebookTrainer(quantizer, generator)
    trainer.start(_clusters(generator, centres))

    def error(features: torch.Tensor) -> float:
        return float((quantizer.decode(quantizer.encode(features)) - features).square().mean())

    assert error(_clusters(generator, centres)) < 1e-3
    moved = centres + 5
    assert error(_clusters(generator, moved)) > 1
    for _ in range(400):
        trainer.quantize(_clusters(generator, moved, 64))
    assert error(_clusters(generator, moved)) < 1e-3


def test_gradient_passes_straight_through() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer((4, 4), 3)
    trainer = CodebookTrainer(quantizer, generator)
    trainer.start(torch.randn(50, 3, generator=generator))
    features = torch.randn(2, 5, 3, generator=generator, requires_grad=True)
    before = quantizer.decode(quantizer.encode(features))
    found = trainer.quantize(features)
    assert torch.allclose(found.features, before, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.features.sum(), features, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(gradient))
    (pull,) = torch.autograd.grad(found.commitment, features)
    assert float((pull * (features - before).detach()).sum()) > 0  # downhill is towards the entries


def test_clips_are_of_both_noise_floors_and_the_asked_length(tmp_path: Path) -> None:
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "short.wav", 0.1 * np.sin(2 * np.pi * 200 * time), 16000, subtype="FLOAT")
    crops = Clips([tmp_path], 24000).batch(40, 30000, np.random.default_rng(1)).waves
    assert crops.shape == (40, 30000) and crops.dtype == torch.float32
    assert bool((crops[:, 28000:] == 0).all())  # one second of sound, slowed at most a sixth, then silence
    steps = crops * 32767
    rounded = (steps - steps.round()).abs().amax(1) < 1e-2
    assert 5 < int(rounded.sum()) < 35
    with pytest.raises(FileNotFoundError, match="no audio"):
        Clips([tmp_path / "nothing"], 24000)


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    """By speaker where there is no manifest, by the manifest's own word where there is one."""
    for number in range(40):
        soundfile.write(tmp_path / f"{number}-1.wav", np.zeros(100), 16000)
    taught, kept = ({one.path.name for one in sources(tmp_path, held_out=held)} for held in (False, True))
    assert taught and kept and not taught & kept and len(taught | kept) == 40
    (tmp_path / "audio").mkdir()
    lines = []
    for name, split in (("a", "train"), ("b", "held out")):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", np.zeros(100), 16000)
        lines.append(json.dumps({"id": name, "speaker": "s1", "split": split}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    assert [one.path.stem for one in sources(tmp_path, held_out=True)] == ["b"]


def speech(folder: Path) -> Path:
    """The real speech that ships, as a folder without a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in SPEECH.glob("*.flac"):
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder


def run(folder: Path, until: int) -> Loop:
    """A run at toy size on real speech, stopped at a step."""
    data = speech(folder.parent / "speech")
    task = Reconstruction(Recipe((data,), STEPS, rows=2, seconds=0.64, bf16=False), TINY)
    loop = Loop(task, Plan(STEPS, rate=2e-3, warm_up=5), folder)
    loop.run(lambda progress: progress.step >= until)
    return loop


def test_a_stopped_run_goes_on_as_if_it_had_not_been_and_its_loss_falls(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", STEPS)
    run(tmp_path / "parts", 11)
    parts = run(tmp_path / "parts", STEPS)
    for name, value in whole.task.model.state_dict().items():
        assert torch.equal(value, parts.task.model.state_dict()[name]), name
    rows = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert whole.progress.losses["mel"] < 0.9 * float(run(tmp_path / "first", 1).progress.losses["mel"])
    assert rows and (tmp_path / "whole/curve.svg").read_text().startswith("<svg")
    tokenizer = AudioTokenizer.from_pretrained(tmp_path / "whole")
    wave = tokenizer.decode(tokenizer.encode(torch.randn(12000) * 0.05, 24000))
    assert torch.isfinite(wave).all()
    with pytest.raises(ModelError, match="seed"):
        Loop(whole.task, Plan(STEPS, seed=2), tmp_path / "whole")


def test_stage_two_moves_the_decoder_and_no_code(tmp_path: Path) -> None:
    run(tmp_path / "one", 5)
    task = adversarial.Refinement(Recipe((tmp_path / "speech",), 4, rows=2, seconds=0.64, bf16=False), tmp_path / "one")
    Loop(task, Plan(4, rate=1e-3, warm_up=1), tmp_path / "two").run(lambda _: False)
    one, two = (AudioTokenizer.from_pretrained(tmp_path / name) for name in ("one", "two"))
    wave, rate = soundfile.read(SPEECH / "goforward.flac", dtype="float32")
    codes = [tokenizer.encode(torch.from_numpy(wave), rate) for tokenizer in (one, two)]
    assert torch.equal(*codes)
    assert not torch.allclose(one.decode(codes[0]), two.decode(codes[1]))


def test_words_are_found_where_they_are() -> None:
    """Scores that name the phones at known times give these times back."""
    tokens = spoken("go forward, ten meters")
    rate, starts, slot = 25.0, [], 12
    scores = torch.full((400, len(CLASSES) + 1), -8.0)
    scores[:, SILENCE] = -1.0
    for token in tokens:
        starts.append(slot / (SLOTS * rate))
        scores[slot : slot + 7, SILENCE] = -8.0
        scores[slot : slot + 7, phone_class(token)] = 0.0
        slot += 7
    found, agreement = place(scores, tokens, rate)
    assert np.allclose(found, starts, atol=0.021) and agreement > -1
    assert place(scores.roll(1, dims=1), tokens, rate)[1] < agreement


def _member(rank: int, port: int, out: Path) -> None:
    """One of two processes, told so as torch's launcher tells it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start("cpu")
    task = Reconstruction(Recipe((out.parent / "speech",), 4, rows=1, seconds=0.64, bf16=False), TINY)
    Loop(task, Plan(4, rate=1e-3, warm_up=1), out).run(lambda _: False)
    weights = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
    torch.save((distributed.rank(), distributed.world(), weights), out.parent / f"weights-{rank}.pt")
    distributed.stop()


def test_two_processes_stay_one_model(tmp_path: Path) -> None:
    """After four steps on different examples both hold the same weights."""
    speech(tmp_path / "speech")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    members = [FORKS.Process(target=_member, args=(rank, port, tmp_path / "run"), daemon=True) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert [member.exitcode for member in members] == [0, 0]
    (first, world, weights), (second, _, others) = (torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2))
    assert (first, second, world) == (0, 1, 2)
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    AudioTokenizer.from_pretrained(tmp_path / "run")

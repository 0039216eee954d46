"""Training moves codebooks as it says, saves what loads, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vivavoce.model import AudioTokenizer
from vivavoce.model.quantizer import ResidualQuantizer
from vivavoce.model.training.clips import Clips
from vivavoce.model.training.codebooks import CodebookTrainer
from vivavoce.model.training.tokenizer import Recipe, Trainer

SPEECH = Path(__file__).parents[1] / "data" / "speech"


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
    quantized, commitment = trainer.quantize(features)
    assert torch.allclose(quantized, before, atol=1e-6)
    (gradient,) = torch.autograd.grad(quantized.sum(), features, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(gradient))
    (pull,) = torch.autograd.grad(commitment, features)
    assert float((pull * (features - before).detach()).sum()) > 0  # downhill is towards the entries


def test_clips_are_of_both_noise_floors_and_the_asked_length(tmp_path: Path) -> None:
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "short.wav", 0.1 * np.sin(2 * np.pi * 200 * time), 16000, subtype="FLOAT")
    crops = Clips([tmp_path], 24000, seed=1).batch(40, 30000)
    assert crops.shape == (40, 30000) and crops.dtype == torch.float32
    assert bool((crops[:, 24000:] == 0).all())  # one second of sound, then silence
    steps = crops * 32767
    rounded = (steps - steps.round()).abs().amax(1) < 1e-2
    assert 5 < int(rounded.sum()) < 35
    with pytest.raises(FileNotFoundError, match="no audio"):
        Clips([tmp_path / "nothing"], 24000, seed=1)


def test_both_phases_save_a_folder_and_go_on(tmp_path: Path) -> None:
    """The export loads, fits its configuration, and keeps the codebooks exactly; a later run knows where it is."""
    recipe = Recipe((SPEECH,), tmp_path, minutes=1, rows=2, seconds=0.64)
    trainer = Trainer(recipe)
    assert set(trainer.advance()) == {"mel", "complex", "guide"}
    trainer.elapsed = 40.0
    losses = trainer.advance()
    assert set(losses) == {"commitment", "mel", "complex"}  # codebooks are in use, the guide is over
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    trainer.elapsed = 60.0
    trainer.run()  # the minutes are over: it only saves
    tokenizer = AudioTokenizer.from_pretrained(tmp_path)
    books = zip(tokenizer.encoder.quantizer.codebooks, trainer.model.encoder.quantizer.codebooks, strict=True)
    for saved, own in books:
        assert torch.equal(saved.embed, own.embed) and bool(own.embed.abs().sum() > 0)
    wave = tokenizer.decode(tokenizer.encode(torch.randn(12000) * 0.05, 24000))
    assert torch.isfinite(wave).all()
    later = Trainer(recipe)
    later.run()
    assert (later.step, later.quantized) == (2, True)
    assert later.optimizer.state_dict()["state"][0]["step"] == 2

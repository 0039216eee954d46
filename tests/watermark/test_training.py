"""Training at toy size: it learns, and a resumed run goes on as if it had never stopped."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce.watermark.networks import NetworkSize
from vivavoce.watermark.training.data import Speech, speech_files
from vivavoce.watermark.training.edits import EDITS, crop
from vivavoce.watermark.training.export import export
from vivavoce.watermark.training.loop import Plan, Trainer
from vivavoce.watermark.weights import load

SPEECH = Path(__file__).parents[1] / "data/speech"
TOY = Plan(size=NetworkSize(nbits=2, n_filters=4, dimension=8), batch=4, cut_seconds=0.256, learning_rate=3e-3)


@pytest.fixture(scope="module")
def speech() -> Speech:
    torch.set_num_threads(1)
    return Speech(speech_files([SPEECH], held_out=False))


def test_training_and_held_out_files_share_nothing() -> None:
    training, held_out = (set(speech_files([SPEECH], held_out=kept)) for kept in (False, True))
    assert training
    assert held_out
    assert not training & held_out
    with pytest.raises(FileNotFoundError):
        Speech([])


def test_it_learns(speech: Speech, tmp_path: Path) -> None:
    trainer = Trainer(TOY, speech, tmp_path)
    losses = []
    for _ in range(60):
        trainer.step()
        losses.append(trainer.progress.loss)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_resumed_run_is_the_same_run(speech: Speech, tmp_path: Path) -> None:
    """With edits, crops and presence on, so that everything that is drawn is drawn again."""
    plan = dataclasses.replace(TOY, start_db=5.0)
    once, twice = Trainer(plan, speech, tmp_path / "once"), Trainer(plan, speech, tmp_path / "twice")
    for trainer in (once, twice):
        trainer.progress.settled = True
        trainer.progress.bits = trainer.progress.presence = 0.99
    once.run(lambda p: p.step >= 6)
    twice.run(lambda p: p.step >= 3)
    again = Trainer(plan, speech, tmp_path / "twice")
    assert again.progress.step == 3
    again.run(lambda p: p.step >= 6)
    assert again.progress == once.progress
    for name, weight in once.networks.state_dict().items():
        torch.testing.assert_close(again.networks.state_dict()[name], weight, rtol=0, atol=0)


def test_another_plan_does_not_go_on_with_this_run(speech: Speech, tmp_path: Path) -> None:
    Trainer(TOY, speech, tmp_path).save()
    with pytest.raises(ValueError, match="another plan"):
        Trainer(dataclasses.replace(TOY, seed=2), speech, tmp_path)


def test_the_level_falls_while_it_is_read_and_rises_when_not(speech: Speech, tmp_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(TOY, start_db=-8.0), speech, tmp_path)
    trainer.progress.settled = True
    trainer.progress.bits = trainer.progress.presence = 1.0
    trainer.step()
    softer = trainer.progress.snr_db
    assert softer == pytest.approx(-8 + TOY.step_db)
    trainer.progress.bits = 0.5
    trainer.step()
    assert trainer.progress.snr_db < softer


@pytest.mark.parametrize("edit", dict.fromkeys(EDITS), ids=lambda edit: edit.__name__)
def test_every_edit_keeps_the_shape_and_lets_the_gradient_through(edit) -> None:
    waves = (0.1 * torch.randn(3, 6000, generator=torch.Generator().manual_seed(1))).requires_grad_()
    edited = edit(waves, np.random.default_rng(1))
    assert edited.shape == waves.shape
    edited.square().sum().backward()
    assert waves.grad is not None
    assert waves.grad.abs().sum() > 0


def test_a_crop_moves_sound_and_truth_together() -> None:
    waves = torch.arange(40.0).reshape(2, 20)
    cut, present = crop(waves, waves + 0.5, np.array([0, 5]))
    assert cut.tolist() == [list(range(15)), list(range(25, 40))]
    torch.testing.assert_close(present, cut + 0.5)


def test_a_run_becomes_weights(speech: Speech, tmp_path: Path) -> None:
    Trainer(TOY, speech, tmp_path / "run").save()
    export(tmp_path / "run", [SPEECH], tmp_path / "out", "toy", clips=1)
    networks, settings = load(tmp_path / "out", "cpu")
    assert settings.model_id == "toy"
    assert settings.size == networks.size == TOY.size
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["training"]["plan"]["seed"] == TOY.seed
    assert 0.5 <= config["threshold"] < 1.0

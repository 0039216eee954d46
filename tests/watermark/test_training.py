"""Training at toy size: it learns, and a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from vivavoce.train_watermark import export, train
from vivavoce.watermark.level import whitened
from vivavoce.watermark.networks import GROUP_FRAMES, Networks, NetworkSize
from vivavoce.watermark.training.curve import draw
from vivavoce.watermark.training.data import Speech, speech_files
from vivavoce.watermark.training.export import Calibration, read_run
from vivavoce.watermark.training.loop import Plan, Progress, Trainer
from vivavoce.watermark.weights import Settings, load, save

SPEECH = Path(__file__).parents[1] / "data/speech"
SIZE = NetworkSize(nbits=2, n_filters=4, dimension=8)
TOY = Plan(size=SIZE, batch=8, cut_seconds=0.32, learning_rate=3e-3)


@pytest.fixture(scope="module")
def speech() -> Speech:
    torch.set_num_threads(1)
    return Speech(speech_files([SPEECH], held_out=False))


def settled(trainer: Trainer) -> Trainer:
    """As if the bits had come: presence, masks, windows and all offsets are on from here."""
    trainer.progress = Progress(snr_db=trainer.plan.start_db, settled=True, bits=0.99, presence=0.99)
    return trainer


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
    for _ in range(50):
        trainer.step()
        losses.append(trainer.progress.loss)
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


def test_a_resumed_run_is_the_same_run(speech: Speech, tmp_path: Path) -> None:
    """With edits, crops and presence on, so that everything that is drawn is drawn again."""
    plan = dataclasses.replace(TOY, start_db=5.0)
    once = settled(Trainer(plan, speech, tmp_path / "once"))
    twice = settled(Trainer(plan, speech, tmp_path / "twice"))
    once.run(lambda p: p.step >= 8)
    twice.run(lambda p: p.step >= 4)
    again = Trainer(plan, speech, tmp_path / "twice")
    assert again.progress.step == 4
    again.run(lambda p: p.step >= 8)
    assert again.progress == once.progress
    for name, weight in once.networks.state_dict().items():
        torch.testing.assert_close(again.networks.state_dict()[name], weight, rtol=0, atol=0)


def test_another_seed_is_another_run(speech: Speech, tmp_path: Path) -> None:
    losses = set()
    for seed in (1, 2):
        trainer = Trainer(dataclasses.replace(TOY, seed=seed), speech, tmp_path / str(seed))
        trainer.step()
        losses.add(trainer.progress.loss)
    assert len(losses) == 2


def test_another_plan_does_not_go_on_with_this_run(speech: Speech, tmp_path: Path) -> None:
    Trainer(TOY, speech, tmp_path).save()
    with pytest.raises(ValueError, match="another plan"):
        Trainer(dataclasses.replace(TOY, seed=2), speech, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)], ids=["empty", "text", "half a file"]
)
def test_a_broken_run_is_named(speech: Speech, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/checkpoint.pt is broken")):
        Trainer(TOY, speech, tmp_path)


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    torch.save({"networks": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is of no run: it has no"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="holds no run"):
        read_run(tmp_path / "absent")


def test_the_level_falls_while_it_is_read_and_rises_when_not(speech: Speech, tmp_path: Path) -> None:
    trainer = settled(Trainer(TOY, speech, tmp_path))
    trainer.step()
    softer = trainer.progress.snr_db
    assert softer == pytest.approx(TOY.start_db + TOY.step_db)
    trainer.progress.bits = 0.5
    trainer.step()
    assert trainer.progress.snr_db < softer


def test_begun_with_trained_networks_it_teaches_presence_at_once(speech: Speech, tmp_path: Path) -> None:
    torch.manual_seed(7)
    networks = Networks(SIZE)
    save(tmp_path / "weights", networks, Settings("toy", SIZE, 20.0, 0.5, {}))
    trainer = Trainer(TOY, speech, tmp_path / "run", start=load(tmp_path / "weights", "cpu")[0])
    assert trainer.progress.settled
    before = {name: weight.clone() for name, weight in trainer.networks.state_dict().items()}
    torch.testing.assert_close(before, dict(networks.state_dict()), rtol=1e-3, atol=1e-4)
    trainer.step()
    assert any(not torch.equal(weight, before[name]) for name, weight in trainer.networks.state_dict().items())


def test_a_message_for_each_frame_changes_the_mark_from_its_frame_on() -> None:
    torch.manual_seed(1)
    networks = Networks(SIZE).eval()
    wave = 0.1 * torch.randn(1, 40 * SIZE.hop - 5)
    one = torch.zeros(1, 40, 2, dtype=torch.int64)
    two = one.clone()
    two[:, GROUP_FRAMES:] = 1
    with torch.inference_mode():
        changed = (networks.raw_mark(wave, one) != networks.raw_mark(wave, two)).nonzero()[:, 1]
    border = GROUP_FRAMES * SIZE.hop
    assert border <= int(changed.min()) < border + SIZE.hop
    with pytest.raises(ValueError, match="39 messages for 40 frames"):
        networks.raw_mark(wave, one[:, 1:])


def test_a_constant_message_makes_audioseals_own_mark() -> None:
    torch.manual_seed(1)
    networks = Networks(SIZE).eval()
    wave = 0.1 * torch.randn(2, 30 * SIZE.hop)
    message = torch.tensor([[0, 1], [1, 1]])
    with torch.inference_mode():
        ours = networks.raw_mark(wave, message.unsqueeze(1).expand(-1, 30, -1))
        hidden = networks.generator.encoder(whitened(wave).unsqueeze(1))
        theirs = networks.generator.decoder(networks.generator.msg_processor(hidden, message))[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.abs().max()))


def test_the_curve_shows_the_log_and_a_cut_off_line_does_no_harm(tmp_path: Path) -> None:
    rows = [{"step": step, "bits": 0.5 + step / 100, "presence": 0.9, "snr_db": step} for step in (20, 40)]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + '\n{"step": 60, "bi')
    draw(tmp_path / "log.jsonl", tmp_path / "curve.svg")
    picture = (tmp_path / "curve.svg").read_text()
    assert picture.startswith("<svg") and picture.count("<polyline") == 3
    assert "steps: 0 to 40" in picture
    assert [line.count(",") for line in re.findall(r'points="([^"]*)"', picture)] == [2, 2, 2]


def test_calibration_finds_the_tail_and_the_temperature() -> None:
    rng = np.random.default_rng(1)
    nats = rng.exponential(0.5, 4000) - 6
    logits = np.where(rng.random(4000) < 0.9, 1.0, -1.0) * 8.0
    scores = Calibration(1 / (1 + np.exp(-nats)), np.full(10, 0.99), logits)
    true = -6 + 0.5 * np.log(1000)  # the score of one unmarked sound in a thousand
    assert scores.score_slope == pytest.approx(1 / (0.5 * np.log(10)), rel=0.15)
    assert np.log(scores.threshold / (1 - scores.threshold)) >= true - 0.3
    assert scores.bit_temperature == pytest.approx(8 / np.log(9), rel=0.15)  # 0.9 is a logit of log 9


def test_commands_train_and_export(tmp_path: Path) -> None:
    """The commands at full size, for one step, with an edit from outside."""
    louder = ["tests.watermark.outside:louder"]
    train([SPEECH], tmp_path / "run", None, steps=1, edit=louder, disguise=louder)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint.pt"}
    export(tmp_path / "run", tmp_path / "out", [SPEECH], "toy", clips=1)
    networks, settings = load(tmp_path / "out", "cpu")
    assert (settings.model_id, settings.size) == ("toy", networks.size)
    record = json.loads((tmp_path / "out/config.json").read_text())["training"]
    assert record["progress"]["step"] == 1
    assert record["plan"]["edits"] == record["plan"]["disguises"] == louder
    assert 0 < settings.threshold < 1


def test_the_command_line_has_both_commands() -> None:
    command = [sys.executable, "-m", "vivavoce.cli", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"TERM": "dumb", "COLUMNS": "200"})
    assert done.returncode == 0
    assert "watermark-export" in done.stdout


def test_training_names_what_is_wrong(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(train)
    folders = ["--data", str(tmp_path), "--out", str(tmp_path / "run")]
    empty = CliRunner().invoke(app, folders)
    assert empty.exit_code == 1
    assert "no speech files found" in empty.stderr and isinstance(empty.exception, SystemExit)
    absent = CliRunner().invoke(app, [*folders, "--data", str(SPEECH), "--edit", "nowhere:nothing"])
    assert absent.exit_code == 1
    assert "names no function" in absent.stderr

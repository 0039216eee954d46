"""`vivavoce detect` with the marks that ship: finds what was marked, and nothing in what was recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from vivavoce.detect import detect
from vivavoce.sound import decode
from vivavoce.watermark import Marker
from vivavoce.watermark.weights import SHIPPED

SPEECH = Path(__file__).parents[1] / "data" / "speech"
MESSAGE = 1234


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sounds")
    original = folder / "original[1].flac"
    shutil.copy(SPEECH / "austen-0870.flac", original)
    sound = decode(original.read_bytes())
    marked = Marker.load().embed(sound.samples, sound.sample_rate, MESSAGE)
    # Loud enough that no sample is clipped away, whatever the level of the marks that ship.
    soundfile.write(folder / "marked.wav", 0.5 * marked / abs(marked).max(), sound.sample_rate)
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "short.wav", sound.samples[:4000], sound.sample_rate)
    return {path.name.partition("[")[0].partition(".")[0]: path for path in folder.iterdir()}


def run(*words: str | Path) -> Any:
    app = typer.Typer()
    app.command()(detect)
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def test_a_mark_is_found_and_told(files: dict[str, Path]) -> None:
    done = run(files["marked"], "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["verdict"], found["file"]) == ("ours", str(files["marked"]))
    assert found["score"] >= found["threshold"] and found["segments"]


def test_no_mark_is_found_where_there_is_none(files: dict[str, Path]) -> None:
    done = run(files["original"], "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["message"]) == (1, "not_detected", None)
    assert found["score"] < found["threshold"]


def test_several_files_in_a_table(files: dict[str, Path]) -> None:
    done = run(files["marked"], files["original"])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any("marked.wav" in line and "ours" in line for line in lines)
    assert any("original[1].flac" in line and "not detected" in line for line in lines)


@pytest.mark.parametrize(("name", "said"), [("text", "not_audio"), ("short", "too_short")])
def test_what_cannot_be_examined_is_no_verdict(files: dict[str, Path], name: str, said: str) -> None:
    for words in ([files[name], files["marked"]], [files[name], files["original"], "--json"]):
        done = run(*words)
        assert done.exit_code == 2 and said in done.stdout


def test_broken_weights_give_no_verdict(files: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "weights")
    (tmp_path / "weights" / "detector.safetensors").write_bytes(b"broken")
    for folder in (tmp_path / "weights", tmp_path):
        done = run(files["marked"], "--weights", folder)
        assert done.exit_code == 2 and done.stdout == ""
    assert run("/no/such/file.wav").exit_code == 2

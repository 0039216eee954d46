"""The judges of training data: what does not say its text, or sounds poor, is not trained on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vivavoce.model.errors import ModelError
from vivavoce.model.training import quality
from vivavoce.model.training.clips import LEFT_OUT, read_manifest, sources
from vivavoce.verification.transcription import Transcriber, _packaged

SPEECH = Path(__file__).parents[1] / "data" / "speech"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One recording three times: with its words, with other words, and without any."""
    (tmp_path / "audio").mkdir()
    wave, rate = soundfile.read(SPEECH / "goforward.flac", dtype="float32")
    said = Transcriber.open().text(wave, rate, "en")
    texts = {"right": said, "wrong": "the weather was better than anybody had hoped", "silent": None}
    lines = []
    for name, text in texts.items():
        shutil.copy(SPEECH / "goforward.flac", tmp_path / "audio" / f"{name}.flac")
        line = {"id": name, "speaker": "reader", "split": "train", "seconds": len(wave) / rate}
        lines.append(line if text is None else line | {"text": text})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_clip_that_says_something_else_is_left_out(folder: Path) -> None:
    assert quality.check(folder, _packaged(), most_wrong=0.2, least_mos=None) == 2
    verdicts = {line["id"]: line for line in read_manifest(folder / "manifest.jsonl")}
    assert verdicts["right"]["words_wrong"] == 0 and LEFT_OUT not in verdicts["right"]
    assert verdicts["wrong"]["words_wrong"] > 0.8 and verdicts["wrong"][LEFT_OUT] == "words"
    assert "words_wrong" not in verdicts["silent"]
    assert {source.path.stem for source in sources(folder)} == {"right", "silent"}
    # Judged anew by a milder measure, it comes back: nothing was lost.
    assert quality.check(folder, _packaged(), most_wrong=5.0, least_mos=None) == 3


def test_noise_is_left_out_by_its_quality(folder: Path) -> None:
    pytest.importorskip("speechmos", reason="needs the extra data")
    wave, rate = soundfile.read(folder / "audio" / "silent.flac", dtype="float32")
    noise = np.random.default_rng(0).normal(0, 0.3, len(wave)).astype(np.float32)
    soundfile.write(folder / "audio" / "silent.flac", np.clip(wave + noise, -1, 1), rate)
    quality.check(folder, _packaged(), most_wrong=5.0, least_mos=1.8)
    verdicts = {line["id"]: line for line in read_manifest(folder / "manifest.jsonl")}
    assert verdicts["silent"][LEFT_OUT] == "dnsmos"
    assert verdicts["silent"]["dnsmos"] < 1.8 <= verdicts["right"]["dnsmos"]


def test_a_judge_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(ModelError, match="speechmos"):
        quality.check(folder, _packaged(), most_wrong=1.0, least_mos=3.0)

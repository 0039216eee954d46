"""Training of the mini language model: it teaches what generation does, and writes a folder that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tests.model.tiny_lm import random_grid, tiny_lm

from vivavoce.model.grid import split_grid
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.sampling import GREEDY, Sampler
from vivavoce.model.training import voice
from vivavoce.model.training.voice_data import Example, byte_tokenizer, read_clips
from vivavoce.model.voice_model import default_folder

SPEECH = Path(__file__).parents[1] / "data" / "speech"
TOKENIZER = default_folder() / "tokenizer"


@pytest.mark.parametrize("shape", ["base", "uneven delays", "no delay at all", "encoder wider than decoder"])
def test_the_patch_decoder_is_taught_what_it_does(shape: str) -> None:
    """Shown its own greedy patches, the taught logits choose exactly these again, in every delay pattern."""
    model = tiny_lm(shape)
    start = torch.randn(6, model.config.decoder.width, generator=torch.Generator().manual_seed(1))
    numbers = torch.zeros(6, model.config.group_size, model.config.channels, dtype=torch.float64)
    patches = model.decode_patches(start, Sampler([GREEDY] * 6, start.device), numbers)
    for channel, logits in enumerate(voice.taught_logits(model, start, patches)):
        logits[..., model.config.zero_ids[channel]] = -torch.inf
        assert torch.equal(logits.argmax(-1), patches[..., channel])


def test_padding_and_neighbours_change_no_loss() -> None:
    """The loss of two sequences of different lengths is the mean of their own, weighted by patches."""
    model = tiny_lm()
    examples = []
    for length, patches in ((2, 5), (40, 5)):
        groups = split_grid(random_grid(model, length, patches, length), model.config)
        examples.append(Example(groups, groups.text == model.special.empty))
    voice_loss, _ = voice.batch_loss(model, examples)
    alone = [voice.batch_loss(model, [example])[0] for example in examples]
    assert torch.allclose(voice_loss, sum(alone) / 2, atol=1e-5)


def test_bytes_come_back_from_the_text_tokenizer() -> None:
    """Any text, one id a byte."""
    tokenizer = byte_tokenizer()
    text = "Grüße, 你好!  two spaces\n"
    ids = tokenizer.encode(text).ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def _data(folder: Path) -> Path:
    """Eleven clips of two speakers, two of them a pair, out of the speech that ships."""
    (folder / "audio").mkdir(parents=True)
    wave, rate = soundfile.read(SPEECH / "austen-0870.flac", dtype="float32")
    lines = []
    for index in range(11):
        name = f"clip{index}"
        piece = wave[index * 2000 : index * 2000 + rate]
        soundfile.write(folder / "audio" / f"{name}.opus", piece.astype(np.float32), rate, format="OGG", subtype="OPUS")
        lines.append({"id": name, "text": f"Piece {index}.", "speaker": f"s{index % 2}", "seconds": 1.0})
    lines[0]["pair"], lines[1]["pair"] = "clip1", "clip0"
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def test_a_run_learns_and_its_folder_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen steps lower the loss; what was written is the model, to the precision of float16."""
    monkeypatch.setattr(voice, "POOL", 2)
    training = voice.Training(voice.Recipe(_data(tmp_path / "data"), TOKENIZER, tmp_path / "lm", 1, rows=2))
    before = training.evaluate()
    for _ in range(6):
        for batch in training._pool():
            training._advance(batch, 0.0)
    after = training.evaluate()
    assert after["c0"] < before["c0"]
    training.save()
    loaded = PatchLM.from_pretrained(tmp_path / "lm")
    example = training.held_out[0]
    ours, theirs = voice.batch_loss(training.model, [example])[0], voice.batch_loss(loaded, [example])[0]
    assert torch.allclose(ours, theirs, atol=0.01)


def test_other_tokenizer_weights_encode_anew(tmp_path: Path) -> None:
    """Codes are kept per tokenizer: the same weights are not asked twice, others are."""
    data = _data(tmp_path / "data")
    folder = tmp_path / "tokenizer"
    shutil.copytree(TOKENIZER, folder)
    cache = tmp_path / "cache" / "codes"
    first = read_clips(data, folder, cache)
    files = list(cache.parent.iterdir())
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(first, read_clips(data, folder, cache), strict=True))
    assert list(cache.parent.iterdir()) == files
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    read_clips(data, folder, cache)
    assert len(list(cache.parent.iterdir())) == 2

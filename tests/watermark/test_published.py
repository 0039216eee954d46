"""AudioSeal's published checkpoints, as their own loader reads them; made here at their size with random weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from audioseal import AudioSeal
from audioseal.loader import load_local_model_config
from omegaconf import OmegaConf
from torch import Tensor

from vivavoce.watermark import Marker
from vivavoce.watermark.networks import Networks
from vivavoce.watermark.training.export import Calibration, Trained, write
from vivavoce.watermark.training.published import SIZE, read_published

SPEECH = Path(__file__).parents[1] / "data/speech"


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights normalised the old way, in layers that were wrapped once less."""
    old = {}
    for name, value in state.items():
        short = name.replace(".inner_conv.", ".")
        if name.endswith(".inner_conv.weight"):
            over = tuple(range(1, value.dim()))
            old[f"{short}_g"] = value.norm(dim=over, keepdim=True)
            old[f"{short}_v"] = 3 * value
        else:
            old[short] = value
    return old


def new_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Today's names, normalised the way of today."""
    new = {}
    for name, value in state.items():
        if name.endswith(".inner_conv.weight"):
            stem = name.removesuffix("weight") + "parametrizations.weight.original"
            new[f"{stem}0"] = value.norm(dim=tuple(range(1, value.dim())), keepdim=True)
            new[f"{stem}1"] = value / 7
        else:
            new[name] = value
    return new


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(5)
    return Networks(SIZE).eval().requires_grad_(requires_grad=False)


def files(folder: Path, networks: Networks, names: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> list[Path]:
    """A generator's and a detector's file as they are published: the model beside its training's settings."""
    found = []
    for kind, card in (("generator", "audioseal_wm_16bits"), ("detector", "audioseal_detector_16bits")):
        settings = OmegaConf.to_container(load_local_model_config(card))
        settings.pop("checkpoint")
        state = names(getattr(networks, kind).state_dict())
        torch.save({"xp.cfg": OmegaConf.create(settings), "model": state}, folder / f"{kind}.pth")
        found.append(folder / f"{kind}.pth")
    return found


@pytest.fixture(scope="module")
def speech() -> Tensor:
    wave, _ = soundfile.read(sorted(SPEECH.glob("*.flac"))[0], dtype="float32", frames=16_000)
    return torch.from_numpy(wave).unsqueeze(0)


def test_published_checkpoints_do_here_what_they_do_in_their_own_package(
    tmp_path: Path, networks: Networks, speech: Tensor
) -> None:
    generator, detector = files(tmp_path, networks, old_names)
    ours = read_published(generator, detector, streaming=False).networks
    message = torch.tensor([[1, 0] * 8])
    theirs = AudioSeal.load_generator(str(generator)).eval()
    repeated = message.unsqueeze(1).expand(1, -(-speech.shape[-1] // SIZE.hop), 16)
    with torch.inference_mode():
        mark = theirs.get_watermark(speech.unsqueeze(1), message=message)[:, 0]
        peak = float(mark.abs().max())
        assert peak > 1e-3
        torch.testing.assert_close(ours.raw_mark(speech, repeated), mark, atol=1e-5 * peak, rtol=0)
        seen = AudioSeal.load_detector(str(detector)).eval().detector(speech.unsqueeze(1))
        atol = 1e-5 * float(seen.abs().max())
        torch.testing.assert_close(ours.look(speech), seen[..., : speech.shape[-1]], atol=atol, rtol=0)


def test_both_spellings_of_weight_normalisation_give_the_same_networks(tmp_path: Path, networks: Networks) -> None:
    ours = read_published(*files(tmp_path, networks, new_names), streaming=False).networks
    for name, value in networks.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("streaming", [False, True])
def test_written_as_weights_they_mark_beside_the_keyed_mark(
    tmp_path: Path, networks: Networks, streaming: bool
) -> None:
    trained = read_published(*files(tmp_path, networks, old_names), streaming=streaming)
    assert trained.networks.size.causal is streaming
    write(
        tmp_path / "weights", quiet(trained), "published", None, Calibration(np.full(20, 0.1), np.ones(20), np.ones(9))
    )
    marker = Marker.load(tmp_path / "weights", secret=b"an operator's secret of 32 bytes")
    wave, rate = soundfile.read(SPEECH / "austen-0870.flac", dtype="float32")
    marked = marker.embed(wave, rate, identity=77)
    reading = marker.detect(marked, rate, search=False).reading
    assert reading is not None and marker.doubt(reading, 77) < 1e-9


def quiet(trained: Trained) -> Trained:
    """Random networks are loud: their mark at a hundredth."""
    last = [module for module in trained.networks.generator.decoder.modules() if isinstance(module, torch.nn.Conv1d)][
        -1
    ]
    last.weight *= 0.01
    last.bias *= 0.01
    return trained


class Harmful:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator, detector = files(tmp_path, networks, old_names)
    torch.save({"xp.cfg": Harmful(), "model": {}}, generator)
    with pytest.raises(ValueError, match="no checkpoint of tensors"):
        read_published(generator, detector, streaming=False)
    generator.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="no checkpoint of tensors"):
        read_published(generator, detector, streaming=False)
    assert not (tmp_path / "harmed").exists()


def test_other_checkpoints_are_told(tmp_path: Path, networks: Networks) -> None:
    generator, detector = files(tmp_path, networks, old_names)
    with pytest.raises(ValueError, match="does not fit"):
        read_published(detector, generator, streaming=False)
    torch.save({"model": {"weight": [1.0]}}, generator)
    with pytest.raises(ValueError, match="without a model's state"):
        read_published(generator, detector, streaming=False)
    generator.write_bytes(b"not even a pickle")
    with pytest.raises(ValueError, match="no checkpoint of tensors"):
        read_published(generator, detector, streaming=False)

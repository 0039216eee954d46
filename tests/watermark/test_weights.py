"""Weights that are missing or broken are no marker: there is nothing to fall back to."""

import json
from pathlib import Path

import pytest
import torch

from vivavoce.watermark import Marker, MarkError
from vivavoce.watermark.networks import Networks, NetworkSize
from vivavoce.watermark.weights import Settings, save

SMALL = NetworkSize(nbits=4, n_filters=4, dimension=8)


def broken(folder: Path, how: str) -> Path:
    """A folder of weights with one thing wrong."""
    save(folder, Networks(SMALL), Settings("small", SMALL, 20.0, 0.5, {}))
    Marker.load(folder)
    config = json.loads((folder / "config.json").read_text())
    changed = {
        "rate": {**config, "sample_rate": 24_000},
        "threshold": {**config, "threshold": 0.0},
        "bits": {**config, "size": {**config["size"], "nbits": 5}},
        "name": {**config, "size": {**config["size"], "depth": 5}},
        "no size": {key: value for key, value in config.items() if key != "size"},
        "list": [1, 2],
    }
    if how in changed:
        (folder / "config.json").write_text(json.dumps(changed[how]))
    elif how == "text":
        (folder / "config.json").write_text("{")
    elif how == "not a number":
        networks = Networks(SMALL)
        torch.nn.init.constant_(networks.detector.detector[1].weight, torch.nan)
        save(folder, networks, Settings("small", SMALL, 20.0, 0.5, {}))
    elif how == "cut":
        data = (folder / "detector.safetensors").read_bytes()
        (folder / "detector.safetensors").write_bytes(data[: len(data) // 2])
    elif how == "swapped":
        (folder / "generator.safetensors").write_bytes((folder / "detector.safetensors").read_bytes())
    else:
        (folder / how).unlink()
    return folder


@pytest.mark.parametrize("how", ["config.json", "generator.safetensors", "detector.safetensors"])
def test_missing_weights_are_no_marker(tmp_path: Path, how: str) -> None:
    with pytest.raises(MarkError, match=how) as caught:
        Marker.load(broken(tmp_path, how))
    assert caught.value.code == "weights_missing"


@pytest.mark.parametrize(
    "how", ["rate", "threshold", "bits", "name", "no size", "list", "text", "not a number", "cut", "swapped"]
)
def test_broken_weights_are_no_marker(tmp_path: Path, how: str) -> None:
    with pytest.raises(MarkError) as caught:
        Marker.load(broken(tmp_path, how))
    assert caught.value.code == "weights_broken"


def test_no_folder_is_no_marker(tmp_path: Path) -> None:
    with pytest.raises(MarkError):
        Marker.load(tmp_path / "nowhere")

"""Checkpoint folders as they are published: `config.json` beside one or several `*.safetensors` files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vivavoce.model.errors import ModelError

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"


class CheckpointError(ModelError):
    """A checkpoint folder is missing, incomplete, or does not fit the architecture."""


def load_config(folder: Path | str) -> dict[str, Any]:
    """Read `config.json` of a checkpoint folder."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json in this folder")
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return config


def load_weights(folder: Path | str) -> dict[str, Tensor]:
    """Read all tensors of a folder: one `model.safetensors`, or the shards that its index names."""
    folder = Path(folder)
    if (folder / SINGLE_FILE).is_file():
        return load_file(folder / SINGLE_FILE)
    index = folder / SHARD_INDEX
    if not index.is_file():
        raise CheckpointError(f"{folder}: neither {SINGLE_FILE} nor {SHARD_INDEX} in this folder")
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder}: the index names shards that are not here: {', '.join(missing)}")
    weights: dict[str, Tensor] = {}
    for name in shards:
        weights.update(load_file(folder / name))
    return weights


def fit_weights(module: torch.nn.Module, weights: dict[str, Tensor], folder: Path | str) -> None:
    """Load `weights` into `module`, whose names they must match exactly.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape.
    """
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {error}") from error

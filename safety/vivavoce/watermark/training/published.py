"""AudioSeal's published checkpoints (`generator_base.pth`, `detector_base.pth` and their streaming kin) as networks.

Their files are pickles: read with `weights_only`, so that nothing in them is run.
"""

from __future__ import annotations

import pickle
import re
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode
from torch import Tensor

from vivavoce.watermark.networks import Networks, NetworkSize
from vivavoce.watermark.training.export import Trained

SIZE = NetworkSize(
    nbits=16, n_filters=32, dimension=128, ratios=(8, 5, 4, 2), causal=False, lstm=2, whiten=False
)  # as in the `audioseal` package's cards
SEED = 1  # of the calibration's edits

# What the training's own settings, kept beside the weights, are made of.
_HARMLESS: list[Any] = [DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, Any, defaultdict, dict, list, int]
# Layers were wrapped once less when the first checkpoints were written.
_UNWRAPPED = re.compile(r"\.(conv|convtr)\.(weight|bias)$")
# PyTorch's two spellings of weight normalisation: a weight's lengths and its directions.
_NORMALISED = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def read_published(generator: Path, detector: Path, *, streaming: bool) -> Trained:
    """Read a generator and a detector as Meta publishes them.

    Args:
        generator: A checkpoint in PyTorch's own format; `weight_norm` is folded into plain weights.
        detector: Likewise.
        streaming: They are the causal ones, whose cards say `streaming`; the tensors of both kinds look alike.

    Raises:
        ValueError: A file is no such checkpoint, or needs more than tensors to be read.
    """
    size = NetworkSize(**{**vars(SIZE), "causal": streaming})
    networks = Networks(size)
    for module, path in ((networks.generator, generator), (networks.detector, detector)):
        try:
            module.load_state_dict(_plain(_tensors(path)))
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path} does not fit AudioSeal's published networks: {error}") from error
    plan = {"published": {"generator": generator.name, "detector": detector.name}}
    unedited: dict[str, Any] = {"seed": SEED, "edits": [], "disguises": []}
    return Trained(networks.eval().requires_grad_(requires_grad=False), plan | unedited, {})


def _tensors(path: Path) -> dict[str, Tensor]:
    """The state that a checkpoint holds, at whichever of the known places."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no checkpoint of tensors") from error
    for name in ("best_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is a checkpoint without a model's state")
    return state


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without weight normalisation (Salimans and Kingma, 2016), under today's names."""
    plain = {name: value for name, value in state.items() if not name.endswith(tuple(chain(*_NORMALISED)))}
    for name, length in state.items():
        for ending, other in _NORMALISED:
            if name.endswith(ending):
                layer = name.removesuffix(ending)
                direction = state[layer + other]
                over = tuple(range(1, direction.dim()))
                plain[f"{layer}.weight"] = length * direction / direction.norm(dim=over, keepdim=True)
    return {_UNWRAPPED.sub(r".\1.inner_conv.\2", name): value.float() for name, value in plain.items()}

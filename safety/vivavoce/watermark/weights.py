"""Weights on disk: `generator.safetensors`, `detector.safetensors` and the `config.json` that they were made with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.networks import SAMPLE_RATE, Networks, NetworkSize

SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Settings:
    """What has to be known about weights to use them.

    Attributes:
        model_id: Their name, for records.
        level_db: Speech over mark at strength 1.0; None: the generator sets the level itself.
        threshold: Score from which on a mark counts as found; from calibration.
        training: How they were made (command, seed, steps); for readers, not for the code.
        bit_temperature: Divisor of the bits' logits, so that their confidence is no greater than they deserve.
        score_slope: Powers of ten by which unmarked sounds get rarer for each nat of presence above the threshold.
    """

    model_id: str
    size: NetworkSize
    level_db: float | None
    threshold: float
    training: dict[str, Any]
    bit_temperature: float = 1.0
    score_slope: float = 1.0


def save(folder: Path, networks: Networks, settings: Settings) -> None:
    """Write a folder that `load` reads; tensors as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("generator", "detector"):
        tensors = {key: value.half().contiguous() for key, value in getattr(networks, name).state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    config = {**asdict(settings), "sample_rate": SAMPLE_RATE}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, device: str) -> tuple[Networks, Settings]:
    """Read a folder of weights.

    Raises:
        MarkError: weights_missing (a file is not there) or weights_broken (it is no such file, or does not fit).
    """
    for name in ("config.json", "generator.safetensors", "detector.safetensors"):
        if not (folder / name).is_file():
            raise MarkError("weights_missing", f"{folder} has no {name}")
    try:
        settings = _settings(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        networks = Networks(settings.size)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise MarkError("weights_broken", f"{folder}/config.json describes no marker: {error!r}") from error
    for name in ("generator", "detector"):
        try:
            tensors = {key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()}
            getattr(networks, name).load_state_dict(tensors)
        except (SafetensorError, RuntimeError) as error:
            raise MarkError("weights_broken", f"{folder}/{name}.safetensors: {error}") from error
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise MarkError("weights_broken", f"{folder}/{name}.safetensors holds values that are no numbers")
    return networks.eval().requires_grad_(requires_grad=False).to(device), settings


def _settings(config: dict[str, Any]) -> Settings:
    if config["sample_rate"] != SAMPLE_RATE:
        raise ValueError(f"sample rate {config['sample_rate']} instead of {SAMPLE_RATE}")
    size = NetworkSize(**{**config["size"], "ratios": tuple(config["size"]["ratios"])})
    threshold = float(config["threshold"])
    if not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold} is not between 0 and 1")
    temperature = float(config["bit_temperature"])
    if not temperature >= 1:
        raise ValueError(f"bit temperature {temperature} is below 1")
    return Settings(
        str(config["model_id"]),
        size,
        None if config["level_db"] is None else float(config["level_db"]),
        threshold,
        dict(config["training"]),
        temperature,
        float(config["score_slope"]),
    )

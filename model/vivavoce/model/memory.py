"""The memory that an engine needs, told before the first request and not by the last one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vivavoce.model.errors import ModelError
from vivavoce.model.kv_blocks import BLOCK, blocks_for
from vivavoce.model.packed_lm import PackedLM

GIB = 2**30
SHARE = 0.8  # of what is free, for keys and values; the rest is for what is computed on the way, and graphs


class MemoryShort(ModelError):
    """The device has less memory than weights or rows need."""


@dataclass(frozen=True)
class RowMemory:
    """Keys and values of a full batch, in bytes.

    Attributes:
        row: of one row at full context; most requests need less.
        rows: in the batch.
        available: free on the device once the weights are there.
        row_blocks: blocks of a row at full context.
    """

    row: int
    rows: int
    available: int
    row_blocks: int

    @property
    def most_rows(self) -> int:
        """Rows that there is room for, whatever their length."""
        return int(SHARE * self.available) // self.row

    @property
    def blocks(self) -> int:
        """Blocks for keys and values: for every row its whole context, or as many as there is room for."""
        return min(self.rows, self.most_rows) * self.row_blocks


def row_memory(model: PackedLM, rows: int) -> RowMemory:
    """What a batch of so many rows needs at most, beside what is free now."""
    stack = model.config.backbone
    blocks = blocks_for(stack.context)
    row = 2 * stack.layers * stack.kv_heads * stack.head_dim * blocks * BLOCK * model.element_size
    return RowMemory(row, rows, available_bytes(model.device), blocks)


def require_rows(memory: RowMemory, setting: str) -> None:
    """Refuse a device that cannot hold one row at full context; more rows share what there is.

    Raises:
        MemoryShort: it cannot; names the setting.
    """
    if not memory.most_rows:
        raise MemoryShort(
            f"{setting} leaves {memory.available / GIB:.2f} GiB beside the weights, and one row at full context needs "
            f"{memory.row / SHARE / GIB:.3f} GiB with what is computed on the way"
        )


def require_weights(folder: Path, device: torch.device, setting: str) -> None:
    """Refuse a checkpoint whose files alone are larger than what is free, before it is loaded.

    Raises:
        MemoryShort: they are; names the setting.
    """
    needed = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    available = available_bytes(device)
    if needed > available:
        raise MemoryShort(
            f"{setting}={folder} has {needed / GIB:.2f} GiB of weights, {available / GIB:.2f} GiB are free on {device}"
        )


def available_bytes(device: torch.device) -> int:
    """Memory that is to be had: free on a GPU, `MemAvailable` (proc(5)) otherwise."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _meminfo("MemAvailable")


def total_bytes(device: torch.device) -> int:
    """Memory that a device has, free or not."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else _meminfo("MemTotal")


def device_name(device: torch.device) -> str:
    """What people call a device: a GPU's product name, else its type."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _meminfo(name: str) -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

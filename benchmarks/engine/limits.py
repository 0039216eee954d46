"""What the machine allows: the most that was used, and the time that moving a patch's bytes takes at least."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

from vivavoce.model.patch_lm import PatchLM

COPIED = 256 * 2**20  # bytes: more than any cache but the very largest
COPIES = 5


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy reads and writes together, the best of a few."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        wait(device)
        began = time.perf_counter()
        target.copy_(source)
        wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * COPIED / best


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_bytes(lm: PatchLM, rows: int, positions: int, weight_bytes: int) -> int:
    """Bytes that a step of `rows` patches must read: every weight as often as it is used, and keys and values.

    Args:
        lm: the model.
        rows: patches of one step.
        positions: that each row attends to, on average.
        weight_bytes: of one weight.
    """
    config, stack = lm.config, lm.config.backbone
    once = [lm.model, lm.lm_head, lm.hidden_states_downcast, lm.input_local_transformer, lm.speech_group_downcast]
    weights = sum(map(_weights, once))
    weights += config.decoder_steps * _weights(lm.local_transformer)
    weights += config.group_size * _weights(lm.local_transformer_lm_heads)
    kept = 2 * stack.layers * stack.kv_heads * stack.head_dim * positions * lm.lm_head.weight.element_size()
    return weights * weight_bytes + rows * kept


def _weights(module: nn.Module) -> int:
    return sum(each.weight.numel() for each in module.modules() if isinstance(each, nn.Linear))


def forget_peak(device: torch.device) -> None:
    """Begin to measure the peak anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set


def peak_bytes(device: torch.device) -> int:
    """The most memory since then: on a GPU what torch held, on a CPU the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

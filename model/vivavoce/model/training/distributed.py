"""One run on several processes: torch's own launcher starts them, and here they agree.

    torchrun --nproc-per-node 8 -m vivavoce.cli train voice ...

Gradients are averaged over the processes after each backward pass, in one flat buffer: what DistributedDataParallel
does, without its wrapper, which wants one `forward` per step where the tokenizer's stages call parts of the model. The
codebooks move by sums over all processes. Each process draws its own examples: the rank is part of every seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


def start(device: str) -> torch.device:
    """Join the group that the launcher describes, if there is one; returns this process's device."""
    if "RANK" not in os.environ or distributed.is_initialized():
        return torch.device(device)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device != "cuda":
        return torch.device(device)
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


def stop() -> None:
    """Leave the group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 alone and for the one that writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def total(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, in place."""
    if world() > 1:
        distributed.all_reduce(value)
    return value


def same(value: Tensor) -> Tensor:
    """The first process's tensor for all, in place."""
    if world() > 1:
        distributed.broadcast(value, 0)
    return value


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes; a parameter without one counts as zero."""
    if world() == 1:
        return
    own = list(parameters)
    for parameter in own:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in own if parameter.grad is not None]
    flat = total(torch.cat([gradient.flatten() for gradient in gradients])) / world()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))

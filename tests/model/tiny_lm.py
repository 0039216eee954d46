"""Small language models with random weights, in shapes that the published one does not have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vivavoce.model.grid import concatenate, join_grid, speech_groups, text_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.patch_lm import PatchLM

SPECIAL = SpecialIds(sosp=90, eosp=91, sostm=92, eostm=93, eot=94, empty=95)
BASE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 400,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "speech_vocab_size": "21-13-9",
    "speech_zeroemb_idx": "20-12-8",
    "delay_pattern": "0-1-2",
    "group_size": 3,
    "audio_channels": 3,
    "local_dim": 24,
    "local_layers": 2,
    "local_attn_heads": 3,
    "local_ffn_dim": 40,
    "input_local_layers": 1,
    "input_local_dim": 24,
    "input_full_attention": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "base": {},
    "no grouping, patches of one frame": {"num_key_value_heads": 4, "group_size": 1},
    "tied embeddings": {"tie_word_embeddings": True},
    "patch encoder looks back only": {"input_full_attention": False, "group_size": 5},
    "uneven delays": {"delay_pattern": "2-0-5"},
    "no delay at all": {"delay_pattern": "0"},
    "zero id in the middle": {"speech_zeroemb_idx": "0-5-8"},
    "widths that are powers of two": {
        "hidden_size": 64,
        "local_dim": 32,
        "local_ffn_dim": 64,
        "input_local_dim": 32,
        "local_attn_heads": 2,
    },
    "encoder wider than decoder": {"input_local_dim": 36, "local_attn_heads": 6},
    "one channel": {
        "audio_channels": 1,
        "speech_vocab_size": 21,
        "speech_zeroemb_idx": "20",
        "delay_pattern": "0",
        "input_local_dim": None,
    },
}


def tiny_lm(shape: str = "base", seed: int = 0) -> PatchLM:
    """A model of one of SHAPES, with weights wide enough apart that greedy choices are no ties."""
    torch.manual_seed(seed)
    model = PatchLM(LMConfig.parse(BASE | SHAPES[shape]), SPECIAL)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.25 if weight.dim() > 1 else 0.05)
    favour_speech(model)
    return model.requires_grad_(False).eval()


def favour_speech(model: PatchLM) -> None:
    """Make every few groups a patch: random weights alone would hardly ever draw `<|empty|>`.

    The head's line for `<|empty|>` is turned towards the usual state; its embedding is never read, so this is safe
    where head and embedding are tied.
    """
    for stack in (model.model, model.input_local_transformer, model.local_transformer):
        torch.nn.init.ones_(stack.norm.weight)
    with torch.no_grad():
        usual = model.hidden(random_grid(model, 30, 10)).mean(0)
        model.lm_head.weight[SPECIAL.empty] = (30.0 if model.config.tied else 7.0) * usual / usual.square().sum()


def random_grid(model: PatchLM, text: int, patches: int, seed: int = 0) -> Tensor:
    """A prompt: some text, a `<|sosp|>` group, patches, an `<|eosp|>` group."""
    config = model.config
    chance = torch.Generator().manual_seed(seed)
    words = torch.randint(0, 90, (text,), generator=chance).tolist()
    parts = [text_groups([*words, SPECIAL.sosp], config)]
    if patches:
        frames = torch.stack(
            [torch.randint(0, size, (patches * config.group_size,), generator=chance) for size in config.code_sizes]
        )
        parts.append(speech_groups(frames, config, SPECIAL.empty))
    parts.append(text_groups([SPECIAL.eosp], config))
    return join_grid(concatenate(parts))

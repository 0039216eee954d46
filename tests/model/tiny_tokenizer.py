"""Small tokenizers with random weights, in many shapes."""

from __future__ import annotations

from typing import Any

import torch

from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.tokenizer_config import TokenizerConfig

BASE: dict[str, Any] = {
    "sampling_rate": 24000,
    "n_mels": 20,
    "nfft": 960,
    "hop_length": 240,
    "window_size": 960,
    "kernel_size": 3,
    "stride_size": 2,
    "avg_pooler": 2,
    "d_model": 32,
    "num_quantizers": 6,
    "codebook_size": [32, 16],
    "encoder_layers": 3,
    "encoder_skip_layer_id": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 48,
    "decoder_kernel_size": 3,
    "decoder_stride_size": 2,
    "vocoder_num_layers": 2,
    "vocoder_dim": 16,
    "vocoder_intermediate_dim": 32,
    "vocoder_attention_heads": 2,
    "vocoder_attn_window_size": [40, 10],
}

SHAPES: dict[str, dict[str, Any]] = {
    "published": {},
    "no pooling": {"avg_pooler": 1},
    "pooling by 3": {"avg_pooler": 3},
    "rms norm": {"ln_type": "RMSNorm"},
    "causal encoder": {"encoder_causal": True},
    "windows": {"encoder_attn_window_size": [7, 4], "decoder_attn_window_size": [9, 5]},
    "windows on one side": {"encoder_attn_window_size": [-1, 3], "decoder_attn_window_size": [5, -1]},
    "both ways in the decoder": {"decoder_causal": False, "decoder_attn_window_size": [6, 3]},
    "no skip": {"encoder_skip_layer_id": None},
    "wide kernels": {"kernel_size": 5, "decoder_kernel_size": 6, "stride_size": 2},
    "kernel as wide as the stride": {"decoder_kernel_size": 2},
    "strides of 4": {"stride_size": 4, "decoder_stride_size": 4, "decoder_kernel_size": 5},
    "other spectra": {"nfft": 512, "hop_length": 128, "window_size": 400, "sampling_rate": 16000, "fmin": 50},
    "other activation": {"activation_function": "silu"},
}


def tiny(**changes: object) -> AudioTokenizer:
    """A tokenizer of the base shape with some keys changed; weights depend on nothing else."""
    generator = torch.Generator().manual_seed(3)
    tokenizer = AudioTokenizer(TokenizerConfig.parse(BASE | changes)).eval().requires_grad_(False)
    for name, tensor in tokenizer.state_dict().items():
        if name.endswith("norm.weight"):
            tensor.copy_(1 + 0.2 * torch.randn(tensor.shape, generator=generator))
        elif not name.endswith("istft.window"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (1 if "_codebook" in name else 0.15))
    return tokenizer


def random_codes(tokenizer: AudioTokenizer, frames: int, seed: int = 0) -> torch.Tensor:
    """Codes int64[codebooks, frames] that are in range."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [torch.randint(size, (frames,), generator=generator) for size in tokenizer.config.codebook_sizes]
    )


def random_mel(tokenizer: AudioTokenizer, frames: int, seed: int = 0) -> torch.Tensor:
    """A log-mel [frames, n_mels]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, tokenizer.config.n_mels, generator=generator)

"""`python -m benchmarks.sizes_tokenizer`: parameters, memory and, on a GPU, speed of the published audio tokenizer.

Builds the published shape on the meta device (no memory) and counts the parameters of each part. Where there is a CUDA
device, the model is also built there with random weights, encodes noise and decodes random codes.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.tokenizer_config import published_config

BYTES = 2  # bfloat16; codebooks stay float32
GIB = 2**30
SECONDS = 30
ROWS = 8


def parameters_per_part(tokenizer: AudioTokenizer) -> dict[str, int]:
    """Number of parameters of each part; together, with the codebooks' entries, they are the whole tokenizer."""
    vocoder = _count(tokenizer.decoder.vocoder)
    return {
        "tokenizer encoder": _count(tokenizer.encoder),
        "tokenizer decoder": _count(tokenizer.decoder) - vocoder,
        "vocoder": vocoder,
        "codebooks": sum(book.embed.numel() for book in tokenizer.encoder.quantizer.codebooks),
    }


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def random_tokenizer(device: torch.device) -> AudioTokenizer:
    """The published shape with random weights, in bfloat16."""
    with torch.device("meta"):
        tokenizer = AudioTokenizer(published_config())
    tokenizer = tokenizer.to_empty(device=device).to(torch.bfloat16).requires_grad_(False).eval()
    for tensor in tokenizer.state_dict().values():
        tensor.normal_(std=0.02)
    tokenizer.decoder.vocoder.head.istft.window.copy_(torch.hann_window(tokenizer.config.nfft))
    return tokenizer


def run_on_gpu() -> None:
    """Encode 30 s of noise and decode eight rows of 30 s with random weights; print seconds of audio per second."""
    tokenizer = random_tokenizer(torch.device("cuda"))
    wave = torch.randn(SECONDS * tokenizer.sample_rate) * 0.1
    codes = tokenizer.encode(wave, tokenizer.sample_rate)  # warms up, too
    tokenizer.decode(codes)
    for name, seconds, work in (
        ("encode", SECONDS, lambda: tokenizer.encode(wave, tokenizer.sample_rate)),
        (f"decode {ROWS} rows", SECONDS * ROWS, lambda: tokenizer.decode_batch([codes] * ROWS)),
    ):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        print(f"on {torch.cuda.get_device_name()}: {name}: {seconds / (time.perf_counter() - start):.0f} audio s/s")
    print(f"peak {torch.cuda.max_memory_allocated() / GIB:.2f} GiB")


def main() -> None:
    """Print the table."""
    with torch.device("meta"):
        tokenizer = AudioTokenizer(published_config())
    parts = parameters_per_part(tokenizer)
    for part, count in parts.items():
        size = count * (4 if part == "codebooks" else BYTES) / GIB
        print(f"{part:<18}{count / 1e6:>10.1f} M parameters{size:>8.2f} GiB")
    print(f"{'total':<18}{sum(parts.values()) / 1e6:>10.1f} M parameters, bfloat16 with float32 codebooks")
    if torch.cuda.is_available():
        run_on_gpu()


if __name__ == "__main__":
    main()

"""What a tokenizer does to real speech: `python -m benchmarks.tokenizer_quality FOLDER AUDIO [AUDIO ...]`.

Prints per file and over all: the L1 of log-mels between input and output at the training's three scales, the level of
the output against the input's, how much of each codebook is used, how far a stream of half seconds lies from decoding
the whole, and the speed on one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from vivavoce.model.audio import resample
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.training.spectral import MelLoss

CHUNK = 13  # code frames, half a second


@dataclass(frozen=True)
class Quality:
    """Figures of one file."""

    seconds: float
    mel: float  # L1 of natural-log mel magnitudes
    level_db: float  # output against input
    stream_mel: float  # the same L1 between streamed and whole decoding
    encode_rtf: float  # seconds of computing per second of audio
    decode_rtf: float


def read(path: Path, rate: int) -> Tensor:
    """Mono samples float32[n] at `rate`."""
    wave, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(torch.from_numpy(wave.mean(1)), own_rate, rate)


def stream(tokenizer: AudioTokenizer, codes: Tensor) -> Tensor:
    """Decode in half seconds."""
    state = tokenizer.stream()
    chunks = torch.split(codes, CHUNK, dim=1)
    return torch.cat([tokenizer.decode_chunk(chunk, state, last=chunk is chunks[-1]) for chunk in chunks])


@torch.inference_mode()
def measure(tokenizer: AudioTokenizer, wave: Tensor) -> tuple[Quality, Tensor]:
    """Figures of one waveform at the tokenizer's rate, and its codes."""
    start = time.perf_counter()
    codes = tokenizer.encode(wave, tokenizer.sample_rate)
    encoded = time.perf_counter()
    made = tokenizer.decode(codes)
    decoded = time.perf_counter()
    length = min(len(made), len(wave))
    wave, made, streamed = wave[None, :length], made[None, :length], stream(tokenizer, codes)[None, :length]
    loss = MelLoss(tokenizer.sample_rate)
    seconds = length / tokenizer.sample_rate
    quality = Quality(
        seconds=seconds,
        mel=float(loss(made, wave)),
        level_db=float(10 * (made.square().mean() / wave.square().mean()).log10()),
        stream_mel=float(loss(streamed, made)),
        encode_rtf=(encoded - start) / seconds,
        decode_rtf=(decoded - encoded) / seconds,
    )
    return quality, codes


def perplexity(codes: Tensor, size: int) -> float:
    """How many entries are in even use: exp of the entropy of codes int64[n]."""
    share = torch.bincount(codes, minlength=size) / len(codes)
    return math.exp(float(-(share * share.clamp(min=1e-12).log()).sum()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure a tokenizer on speech.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("audio", type=Path, nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AudioTokenizer.from_pretrained(arguments.folder)
    print("  seconds  mel L1  level dB  stream L1  encode RTF  decode RTF  file")
    results = []
    for path in arguments.audio:
        result, codes = measure(tokenizer, read(path, tokenizer.sample_rate))
        results.append((result, codes))
        figures = f"{result.mel:8.3f}{result.level_db:10.2f}{result.stream_mel:11.3f}"
        print(f"{result.seconds:9.2f}{figures}{result.encode_rtf:12.4f}{result.decode_rtf:12.4f}  {path.name}")
    total = sum(result.seconds for result, _ in results)
    print(f"over all: mel L1 {sum(result.mel * result.seconds for result, _ in results) / total:.3f}")
    codes = torch.cat([codes for _, codes in results], dim=1)
    pairs = zip(codes, tokenizer.config.codebook_sizes, strict=True)
    used = ", ".join(f"{perplexity(own, size):.0f} of {size}" for own, size in pairs)
    print(f"entries in even use over {codes.shape[1]} frames: {used}")


if __name__ == "__main__":
    main()

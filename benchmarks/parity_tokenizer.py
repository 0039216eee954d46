"""Parity of the audio tokenizer with the vectors of a folder (`tokenizer-*` layout)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_rows import Row, close, identical
from vivavoce.model.tokenizer import AudioTokenizer

FEW = 8  # codebooks that the language model uses: the second decoding of the vectors


def rows(folder: Path) -> list[Row]:
    """Compare mel, features, codes and waveforms; alone and in a batch."""
    vectors = load_file(folder / "vectors.safetensors")
    tokenizer = AudioTokenizer.from_pretrained(folder)
    wave, mel, codes = vectors["wav"], vectors["mel"], vectors["codes"]
    table = [
        close("mel", tokenizer.mel(wave), mel),
        close("hidden", tokenizer.hidden(mel), vectors["hidden"]),
        identical("codes", tokenizer.encode_mel(mel), codes),
        identical("codes from the waveform", tokenizer.encode(wave, tokenizer.sample_rate), codes),
        close("decoded", tokenizer.decode(codes), vectors["decoded"]),
        close(f"decoded, first {FEW} codebooks", tokenizer.decode(codes[:FEW]), vectors["decoded_first8"]),
    ]
    return table + _batch_rows(tokenizer, vectors)


def _batch_rows(tokenizer: AudioTokenizer, vectors: dict[str, Tensor]) -> list[Row]:
    mels = list(torch.split(vectors["packed_mel"], vectors["packed_lens"].tolist()))
    lengths = vectors["packed_out_lens"].tolist()
    codes = list(torch.split(vectors["packed_codes"], lengths, dim=1))
    together = tokenizer.encode_batch(mels)
    waves = tokenizer.decode_batch(codes)
    table = [
        close("batch: hidden", torch.cat(tokenizer.hidden_batch(mels)), vectors["packed_hidden"]),
        identical("batch: lengths", torch.tensor([own.shape[1] for own in together]), vectors["packed_out_lens"]),
        identical("batch: codes", torch.cat(together, dim=1), vectors["packed_codes"]),
        close("batch: decoded, first", waves[0], vectors["decoded"]),
        close("batch: decoded, second", waves[1], vectors["decoded_second"]),
    ]
    for index, (mel, own) in enumerate(zip(mels, codes, strict=True)):
        table.append(identical(f"batch: codes of member {index} alone", together[index], tokenizer.encode_mel(mel)))
        table.append(close(f"batch: decoded, member {index} alone", waves[index], tokenizer.decode(own)))
    return table

"""Encoded speech for training the language model: codes computed once, and examples drawn from them.

`encode` writes beside a folder's manifest one file of codes for each tokenizer, which later runs read clip by clip from
the disk: a corpus need not fit into memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import soxr
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vivavoce.model.checkpoint import SINGLE_FILE
from vivavoce.model.spoken import spoken
from vivavoce.model.tokenizer import AudioTokenizer
from vivavoce.model.training.clips import LEVEL, MANIFEST, audio_file
from vivavoce.model.training.phones import PHONES_FILE, PhoneHead, place

WARPS = (0.87, 0.92, 1.08, 1.14)  # factors on tempo and pitch, one of them for each clip's warped copy


@dataclass(frozen=True)
class Clip:
    """One utterance of an encoded corpus.

    Attributes:
        name: its key among the codes.
        tokens, starts: spoken tokens, and the seconds in which they begin.
        speaker: who speaks; a warped copy is another speaker.
        pair: name of the clip that says the same in another voice in the same time.
        seconds: its length.
    """

    name: str
    tokens: tuple[str, ...]
    starts: tuple[float, ...]
    speaker: str
    pair: str | None
    seconds: float


class Corpus:
    """Clips of one folder, and their codes on disk."""

    def __init__(self, folder: Path, tokenizer_folder: Path) -> None:
        """Open what `encode` wrote.

        Raises:
            FileNotFoundError: the folder was not encoded by this tokenizer.
        """
        path = codes_file(folder, tokenizer_folder)
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not encoded by {tokenizer_folder}: run `vivavoce data encode` first")
        self._codes = safe_open(path, framework="pt")
        stored = set(self._codes.keys())  # type: ignore[no-untyped-call]
        lines = [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]
        self.taught, self.held_out = (
            [clip for line in lines if (line.get("split") == "held out") == held for clip in _clips(line, stored)]
            for held in (False, True)
        )

    def codes(self, clip: Clip) -> Tensor:
        """int64[codebooks, frames]."""
        found: Tensor = self._codes.get_tensor(clip.name)  # type: ignore[no-untyped-call]
        return found.long()


def _clips(line: dict[str, Any], stored: set[str]) -> Iterator[Clip]:
    """A manifest line as it is, and as its warped copy; what has no words or was not encoded is left out."""
    if "starts" not in line:
        return
    for suffix, warp in (("", 1.0), ("~", warp_of(line))):
        if line["id"] + suffix in stored:
            yield Clip(
                line["id"] + suffix,
                tuple(line["tokens"]),
                tuple(start / 1000 / warp for start in line["starts"]),
                line["speaker"] + (f"~{warp}" if suffix else ""),
                line["pair"] + suffix if "pair" in line else None,
                line["seconds"] / warp,
            )


def warp_of(line: dict[str, Any]) -> float:
    """Factor of a clip's warped copy: the same for both clips of a pair, whose time must stay the same."""
    return WARPS[crc32(min(line["id"], line.get("pair", line["id"])).encode()) % len(WARPS)]


def codes_file(folder: Path, tokenizer_folder: Path) -> Path:
    """Where the codes of a folder by a tokenizer are: named after its weights."""
    digest = hashlib.sha256((tokenizer_folder / SINGLE_FILE).read_bytes()).hexdigest()[:16]
    return folder / f"codes.{digest}.safetensors"


def encode(
    folder: Path, tokenizer_folder: Path, *, warped: bool, show: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Encode every clip of a manifest, and where asked a warped copy of each that is trained on.

    Args:
        show: told the clips done and to be done.

    Returns:
        The number of clips, copies included.
    """
    tokenizer = AudioTokenizer.from_pretrained(tokenizer_folder)
    lines = [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]
    codes: dict[str, Tensor] = {}
    for number, line in enumerate(lines):
        wave, rate = soundfile.read(audio_file(folder, line["id"]), dtype="float32", always_2d=True)
        mono = wave.mean(1)
        codes[line["id"]] = _encode(tokenizer, mono, rate)
        if warped and line.get("split") != "held out":
            codes[f"{line['id']}~"] = _encode(tokenizer, mono, rate * warp_of(line))
        show(number + 1, len(lines))
    path = codes_file(folder, tokenizer_folder)
    save_file(codes, path.with_suffix(".half"))
    path.with_suffix(".half").replace(path)
    return len(codes)


def align(
    folder: Path, tokenizer_folder: Path, *, least: float, show: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Place the words of every clip in its recording, and write them into the manifest.

    A line needs `text` or `tokens`. Clips in which the words are not to be heard, by the mean log-probability of the
    best path (`agreement`), lose their `starts`, so that nothing is trained on them.

    Args:
        tokenizer_folder: a run of stage 1, which holds the head that names phones.
        least: agreement from which on a clip is kept.
        show: told the clips done and to be done.

    Returns:
        The number of clips kept.
    """
    tokenizer = AudioTokenizer.from_pretrained(tokenizer_folder)
    head = PhoneHead(tokenizer.config.encoder.width)
    head.load_state_dict(load_file(tokenizer_folder / PHONES_FILE))
    head.eval().requires_grad_(requires_grad=False)
    lines = [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]
    kept = 0
    for number, line in enumerate(lines):
        wave, rate = soundfile.read(audio_file(folder, line["id"]), dtype="float32", always_2d=True)
        mono = wave.mean(1)
        mono *= LEVEL / max(float(np.sqrt(np.mean(np.square(mono)))), 1e-4)
        codes = _encode(tokenizer, mono, rate).long()
        scores = head(tokenizer.encoder.quantizer.codebooks[0].embed[codes[0]][None])[0]
        line.setdefault("tokens", spoken(line.get("text", "")))
        starts, agreement = place(scores, line["tokens"], tokenizer.frame_rate)
        line["agreement"] = round(agreement, 3)
        line.pop("starts", None)
        if agreement >= least:
            line["starts"] = [round(1000 * float(start)) for start in starts]
            kept += 1
        show(number + 1, len(lines))
    half = folder / f"{MANIFEST}.half"
    half.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    half.replace(folder / MANIFEST)
    return kept


def _encode(tokenizer: AudioTokenizer, mono: np.ndarray[Any, np.dtype[np.float32]], rate: float) -> Tensor:
    wave = soxr.resample(mono, rate, tokenizer.sample_rate).astype(np.float32)
    return tokenizer.encode(torch.from_numpy(wave), tokenizer.sample_rate).to(torch.int16)

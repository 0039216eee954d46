"""Encoded speech for training the language model: codes computed once, and examples drawn from them.

`encode` writes beside a folder's manifest one file of codes for each tokenizer, which later runs read clip by clip from
the disk: a corpus need not fit into memory.
"""

from __future__ import annotations

import hashlib
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
from vivavoce.model.training.clips import LEFT_OUT, LEVEL, MANIFEST, Line, audio_file, read_manifest, write_manifest
from vivavoce.model.training.filters import Samples, filtered
from vivavoce.model.training.phones import PHONES_FILE, PhoneHead, place
from vivavoce.model.training.rooms import rough

DISGUISES = (0.8, 0.84, 1.19, 1.25)  # factors on pitch and formants of a source for conversion
WARPS = (0.87, 0.92, 1.08, 1.14)  # factors on tempo and pitch, one of them for each clip's warped copy
WARPED, DISGUISED, ROUGH = "~", "^", "%"  # behind a clip's name: its copies


@dataclass(frozen=True)
class Clip:
    """One utterance of an encoded corpus.

    Attributes:
        name: its key among the codes.
        tokens, starts: spoken tokens, and the seconds in which they begin.
        speaker: who speaks; a warped copy is another speaker.
        pair: name of the clip that says the same in another voice in the same time.
        seconds: its length.
        corpus: where its codes are; names are unique only there.
        disguise: whether it is an artificial voice, which is converted from and never taught.
    """

    name: str
    tokens: tuple[str, ...]
    starts: tuple[float, ...]
    speaker: str
    pair: str | None
    seconds: float
    corpus: Corpus
    disguise: bool = False

    def codes(self) -> Tensor:
        """int64[codebooks, frames]."""
        return self.corpus.codes(self.name)

    def rough_codes(self) -> Tensor:
        """int64[codebooks, frames] of the same in a room with noise; as they are where there is no such copy."""
        name = self.name + ROUGH
        return self.corpus.codes(name if name in self.corpus.stored else self.name)


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
        self.stored = frozenset(self._codes.keys())  # type: ignore[no-untyped-call]
        lines = read_manifest(folder / MANIFEST)
        self.taught, self.held_out = (
            [clip for line in lines if (line.get("split") == "held out") == held for clip in self._clips(line)]
            for held in (False, True)
        )

    def codes(self, name: str) -> Tensor:
        """int64[codebooks, frames] of a clip."""
        found: Tensor = self._codes.get_tensor(name)  # type: ignore[no-untyped-call]
        return found.long()

    def _clips(self, line: Line) -> Iterator[Clip]:
        """A manifest line as it is, warped and in disguise; what has no words or was not encoded is left out."""
        if "starts" not in line or LEFT_OUT in line:
            return
        mask = line["id"] + DISGUISED
        pair = line.get("pair") or (mask if mask in self.stored else None)
        for suffix, warp in (("", 1.0), (WARPED, warp_of(line)), (DISGUISED, 1.0)):
            if line["id"] + suffix in self.stored:
                yield Clip(
                    line["id"] + suffix,
                    tuple(line["tokens"]),
                    tuple(start / 1000 / warp for start in line["starts"]),
                    line["speaker"] + (f"{suffix}{warp}" if suffix else ""),
                    pair + suffix if pair else None,
                    line["seconds"] / warp,
                    self,
                    disguise=suffix == DISGUISED,
                )


def warp_of(line: Line) -> float:
    """Factor of a clip's warped copy: the same for both clips of a pair, whose time must stay the same."""
    return WARPS[crc32(min(line["id"], line.get("pair", line["id"])).encode()) % len(WARPS)]


def codes_file(folder: Path, tokenizer_folder: Path) -> Path:
    """Where the codes of a folder by a tokenizer are: named after its weights."""
    digest = hashlib.sha256((tokenizer_folder / SINGLE_FILE).read_bytes()).hexdigest()[:16]
    return folder / f"codes.{digest}.safetensors"


def encode(
    folder: Path,
    tokenizer_folder: Path,
    *,
    warped: bool,
    in_rooms: bool,
    show: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Encode every clip of a manifest, and of each that is trained on, where asked, a warped copy, and a rough one.

    The rough copy is the clip in a room with noise, to be a reference or a source. A clip that no other voice repeats
    is also encoded in disguise (NANSY, arXiv:2110.14513): with other pitch and formants in the same time, a source for
    conversions into the voice that was recorded.

    Args:
        show: told the clips done and to be done.

    Returns:
        The number of clips, copies included.
    """
    tokenizer = AudioTokenizer.from_pretrained(tokenizer_folder)
    lines = read_manifest(folder / MANIFEST)
    codes: dict[str, Tensor] = {}
    for number, line in enumerate(lines):
        wave, rate = soundfile.read(audio_file(folder, line["id"]), dtype="float32", always_2d=True)
        mono = wave.mean(1)
        codes[line["id"]] = _encode(tokenizer, mono, rate)
        if warped and line.get("split") != "held out":
            codes[line["id"] + WARPED] = _encode(tokenizer, mono, rate * warp_of(line))
        if in_rooms and line.get("split") != "held out":
            random = np.random.default_rng(crc32(line["id"].encode()))
            codes[line["id"] + ROUGH] = _encode(tokenizer, rough(mono, rate, random), rate)
        if "pair" not in line:
            codes[line["id"] + DISGUISED] = _encode(tokenizer, _disguised(mono, rate, line["id"]), rate)
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
    lines = read_manifest(folder / MANIFEST)
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
    write_manifest(folder / MANIFEST, lines)
    return kept


def _disguised(mono: Samples, rate: int, name: str) -> Samples:
    """The same words at the same times in another voice: resampled, and brought back to its tempo (WSOLA)."""
    factor = DISGUISES[crc32(name.encode()) % len(DISGUISES)]
    return filtered(soxr.resample(mono, rate * factor, rate), rate, "atempo", f"{1 / factor:.6f}")


def _encode(tokenizer: AudioTokenizer, mono: np.ndarray[Any, np.dtype[np.float32]], rate: float) -> Tensor:
    wave = soxr.resample(mono, rate, tokenizer.sample_rate).astype(np.float32)
    return tokenizer.encode(torch.from_numpy(wave), tokenizer.sample_rate).to(torch.int16)

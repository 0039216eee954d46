"""Training examples of the language model: prompts and targets in the very form in which they are asked for later."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from vivavoce.model.checkpoint import SINGLE_FILE
from vivavoce.model.grid import Groups, concatenate, speech_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.prompts import Material, PromptBuilder, ReferenceCodes
from vivavoce.model.tokenizer import AudioTokenizer

SPECIAL_NAMES = (
    "<|sosp|>", "<|eosp|>", "<|sostm|>", "<|eostm|>", "<|eot|>", "<|empty|>", "<|speech|>", "<|conversion|>",
)  # fmt: skip
REFERENCE_SECONDS = (1.5, 3.2)
CONVERSIONS = 0.4  # share of conversions among the examples


def byte_tokenizer() -> Tokenizer:
    """A text tokenizer with one id per byte, and the special ids behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_NAMES])
    return tokenizer


@dataclass(frozen=True)
class Clip:
    """One utterance: its text, who speaks, and its codes int64[codebooks, frames]."""

    name: str
    text: str
    speaker: str
    pair: str | None
    codes: Tensor


@dataclass(frozen=True)
class Example:
    """A sequence of groups, and where in it the model is taught: `target` bool[T]."""

    groups: Groups
    target: Tensor


def read_clips(data: Path, tokenizer_folder: Path, cache: Path) -> list[Clip]:
    """Read a folder with `manifest.jsonl` and `audio/`, and encode every clip once.

    The codes are kept in the file `cache`, named after the tokenizer's weights, so that other weights encode anew.
    """
    lines = [json.loads(line) for line in (data / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    digest = hashlib.sha256((tokenizer_folder / SINGLE_FILE).read_bytes()).hexdigest()[:16]
    path = cache.with_suffix(f".{digest}.safetensors")
    if not path.is_file():
        tokenizer = AudioTokenizer.from_pretrained(tokenizer_folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({line["id"]: _encode(tokenizer, data / "audio" / f"{line['id']}.opus") for line in lines}, path)
    codes = load_file(path)
    return [
        Clip(line["id"], line["text"], line["speaker"], line.get("pair"), codes[line["id"]].long()) for line in lines
    ]


def _encode(tokenizer: AudioTokenizer, path: Path) -> Tensor:
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(wave.mean(1), rate, tokenizer.sample_rate).astype(np.float32)
    return tokenizer.encode(torch.from_numpy(mono), tokenizer.sample_rate).to(torch.int32)


class Examples:
    """Draws examples of both tasks from clips, in an order that the seed decides."""

    def __init__(
        self, clips: list[Clip], builder: PromptBuilder, config: LMConfig, special: SpecialIds, seed: int, rate: float
    ) -> None:
        self._clips = clips
        self._builder = builder
        self._config = config
        self._special = special
        self._rate = rate
        self._random = np.random.default_rng(seed)
        self._of_speaker: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            self._of_speaker[clip.speaker].append(clip)
        by_name = {clip.name: clip for clip in clips}
        self._pairs = [(by_name[clip.pair], clip) for clip in clips if clip.pair in by_name]

    def draw(self) -> Example:
        """One example: speech with a reference of the same speaker, or a conversion between the two of a pair."""
        if self._pairs and self._random.random() < CONVERSIONS:
            source, target = self._pairs[self._random.integers(len(self._pairs))]
            return self._example("conversion", target, source)
        return self._example("cloned_speech", self._clips[self._random.integers(len(self._clips))], None)

    def _example(self, name: str, target: Clip, source: Clip | None) -> Example:
        task = self._builder.profile.task(name)
        reference = ReferenceCodes(self._reference(target), "")
        frames = target.codes.shape[1]
        given = None
        if source is not None:
            frames = min(frames, source.codes.shape[1])
            given = source.codes[:, :frames]
        speech = speech_groups(target.codes[:, :frames], self._config, self._special.empty)
        material = Material(target.text, given, (reference,))
        prompt = self._builder.build(task, material)
        script = self._builder.script(task, material, len(speech))
        groups = concatenate([prompt, script.filled(speech.codes)])
        return Example(groups, torch.cat((torch.zeros(len(prompt), dtype=torch.bool), script.free)))

    def _reference(self, target: Clip) -> Tensor:
        """A random piece of another clip of the speaker, or of the same where there is no other."""
        others = [clip for clip in self._of_speaker[target.speaker] if clip.name != target.name] or [target]
        codes = others[self._random.integers(len(others))].codes
        frames = min(codes.shape[1], round(self._random.uniform(*REFERENCE_SECONDS) * self._rate))
        start = int(self._random.integers(codes.shape[1] - frames + 1))
        return codes[:, start : start + frames]

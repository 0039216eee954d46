"""Training examples of the language model: prompts and targets in the very form in which they are asked for later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor

from vivavoce.model.grid import Groups, concatenate, speech_groups
from vivavoce.model.lm_config import LMConfig, SpecialIds
from vivavoce.model.prompts import Material, PromptBuilder, ReferenceCodes
from vivavoce.model.script import reading_groups
from vivavoce.model.spoken import PAUSES, PHONES, STRESS, TOKEN
from vivavoce.model.training.phones import SLOTS, classes
from vivavoce.model.training.phones import UNKNOWN as UNKNOWN_PHONE
from vivavoce.model.training.voice_corpus import Clip, Corpus

SPECIAL_NAMES = (
    "<|sosp|>", "<|eosp|>", "<|sostm|>", "<|eostm|>", "<|eot|>", "<|empty|>", "<|speech|>", "<|conversion|>",
)  # fmt: skip
UNKNOWN = "<|unknown|>"
REFERENCE_SECONDS = (1.5, 3.2)
LONGEST = 7.0  # seconds of a target
SHORTEST = 1.2
LEAST_FRAMES = 8  # of a piece; a word at the very end of a clip can leave none
CONVERSIONS = 0.35  # share of conversions among the examples, where there are pairs
OTHERS = 0.5  # share of references from another clip of the speaker, where there is one


Value = TypeVar("Value")


def phone_tokenizer() -> Tokenizer:
    """A text tokenizer with one id per spoken token, and the special ids behind them."""
    known = [*PAUSES, *(space + stress + phone for space in ("", " ") for stress in ("", *STRESS) for phone in PHONES)]
    vocabulary = {token: number for number, token in enumerate([*known, UNKNOWN])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN.pattern), "isolated")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_NAMES])
    return tokenizer


@dataclass(frozen=True)
class Example:
    """A sequence of T groups as the model shall continue it.

    Attributes:
        groups: what it reads and says.
        target: bool[T], where it is taught.
        phones: int64[T, SLOTS * group_size], the class of phone in the middle of each slot of a taught patch,
            elsewhere `phones.UNKNOWN`.
    """

    groups: Groups
    target: Tensor
    phones: Tensor


@dataclass(frozen=True)
class Piece:
    """Seconds `start` to `end` of a clip."""

    clip: Clip
    start: float
    end: float


class Examples:
    """Draws examples of both tasks from the clips of several corpora; each corpus has an equal share."""

    def __init__(
        self,
        corpora: Sequence[Corpus],
        builder: PromptBuilder,
        config: LMConfig,
        special: SpecialIds,
        frame_rate: float,
        *,
        held_out: bool = False,
    ) -> None:
        self._builder, self._config, self._special, self._rate = builder, config, special, frame_rate
        self._clips: list[list[Clip]] = []
        self._pairs: list[list[tuple[Clip, Clip]]] = []
        self._of_speaker: dict[str, list[Clip]] = defaultdict(list)
        for corpus in corpora:
            known = corpus.held_out if held_out else corpus.taught
            by_name = {clip.name: clip for clip in known}
            clips = [clip for clip in known if not clip.disguise]
            pairs = [(by_name[clip.pair], clip) for clip in clips if clip.pair in by_name]
            self._clips += [clips] if clips else []
            self._pairs += [pairs] if pairs else []
            for clip in clips:
                self._of_speaker[clip.speaker].append(clip)
        if not self._clips:
            raise FileNotFoundError("no clips with words and codes")

    def draw(self, random: np.random.Generator) -> Example:
        """One example: speech with a reference of the same speaker, or a conversion between the two of a pair."""
        while True:
            if self._pairs and random.random() < CONVERSIONS:
                source, target = _one(_one(self._pairs, random), random)
            else:
                source, target = None, _one(_one(self._clips, random), random)
            pieces = self._pieces(target, random)
            if pieces is not None and all(self._codes(piece).shape[1] >= LEAST_FRAMES for piece in pieces):
                reference, wanted = pieces
                if source and self._codes(Piece(source, wanted.start, wanted.end)).shape[1] < LEAST_FRAMES:
                    continue
                return self._conversion(source, wanted, reference) if source else self._speech(wanted, reference)

    def _speech(self, wanted: Piece, reference: Piece) -> Example:
        clip = wanted.clip
        inside = [place for place, start in enumerate(clip.starts) if wanted.start <= start < wanted.end]
        tokens = "".join(clip.tokens[place] for place in inside)
        first = round(wanted.start * self._rate) / self._rate
        prompt = self._prompt("cloned_speech", Material("", None, (self._reference(reference),)))
        answer = reading_groups(
            self._builder.token_ids(tokens),
            [clip.starts[place] - first for place in inside],
            speech_groups(self._codes(wanted), self._config, self._special.empty),
            self._config.group_size / self._rate,
            self._config,
            self._special,
        )
        free = torch.cat((torch.zeros(len(prompt), dtype=torch.bool), torch.ones(len(answer), dtype=torch.bool)))
        return self._example(concatenate([prompt, answer]), free, wanted)

    def _conversion(self, source: Clip, wanted: Piece, reference: Piece) -> Example:
        codes, given = self._codes(wanted), self._codes(Piece(source, wanted.start, wanted.end))
        frames = min(codes.shape[1], given.shape[1])
        task = self._builder.profile.task("conversion")
        material = Material("", given[:, :frames], (self._reference(reference),))
        prompt = self._prompt("conversion", material)
        speech = speech_groups(codes[:, :frames], self._config, self._special.empty)
        script = self._builder.script(task, given[:, :frames])
        groups = concatenate([prompt, script.filled(speech.codes)])
        return self._example(groups, torch.cat((torch.zeros(len(prompt), dtype=torch.bool), script.free)), wanted)

    def _example(self, groups: Groups, target: Tensor, said: Piece) -> Example:
        """With the phones of `said`, which the taught patches hold in their order."""
        patches = target & (groups.text == self._special.empty)
        frames = int(patches.sum()) * self._config.group_size
        first = round(said.start * self._rate) / self._rate
        named = classes(said.clip.tokens, np.array(said.clip.starts) - first, frames, self._rate)
        phones = torch.full((len(groups), SLOTS * self._config.group_size), UNKNOWN_PHONE)
        phones[patches] = named.view(-1, phones.shape[1])
        return Example(groups, target, phones)

    def _prompt(self, name: str, material: Material) -> Groups:
        return self._builder.build(self._builder.profile.task(name), material)

    def _reference(self, piece: Piece) -> ReferenceCodes:
        return ReferenceCodes(self._codes(piece), "")

    def _codes(self, piece: Piece) -> Tensor:
        return piece.clip.codes()[:, round(piece.start * self._rate) : round(piece.end * self._rate)]

    def _pieces(self, target: Clip, random: np.random.Generator) -> tuple[Piece, Piece] | None:
        """Reference and target: of two clips of the speaker, or two pieces of one that share nothing."""
        others = [clip for clip in self._of_speaker[target.speaker] if clip is not target]
        wished = float(random.uniform(*REFERENCE_SECONDS))
        if others and random.random() < OTHERS:
            other = _one(others, random)
            start = float(random.uniform(0, max(0.0, other.seconds - wished)))
            wanted = _upto(target, 0.0, target.seconds, random)
            return Piece(other, start, min(other.seconds, start + wished)), wanted
        cuts = [start for start in _words(target) if REFERENCE_SECONDS[0] <= start <= target.seconds - SHORTEST]
        if random.random() < 0.5:
            cuts = [start for start in _words(target) if SHORTEST <= start <= target.seconds - REFERENCE_SECONDS[0]]
            if not cuts:
                return None
            cut = _one(cuts, random)
            start = float(random.uniform(cut, max(cut, target.seconds - wished)))
            return Piece(target, start, min(target.seconds, start + wished)), _upto(target, 0.0, cut, random)
        if not cuts:
            return None
        cut = _one(cuts, random)
        start = float(random.uniform(0, max(0.0, cut - wished)))
        return Piece(target, start, min(cut, start + wished)), _upto(target, cut, target.seconds, random)


def _words(clip: Clip) -> list[float]:
    return [start for token, start in zip(clip.tokens, clip.starts, strict=True) if token.startswith(" ")]


def _upto(clip: Clip, start: float, end: float, random: np.random.Generator) -> Piece:
    """From start to end, or where that is too long a run of whole words somewhere in it."""
    if end - start <= LONGEST:
        return Piece(clip, start, end)
    inside = [word for word in _words(clip) if start <= word < end]
    begin = _one([word for word in inside if word <= end - LONGEST] or [start], random)
    return Piece(clip, begin, max([word for word in inside if word <= begin + LONGEST], default=begin + LONGEST))


def _one(values: Sequence[Value], random: np.random.Generator) -> Value:
    return values[int(random.integers(len(values)))]

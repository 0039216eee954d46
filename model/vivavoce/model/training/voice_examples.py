"""Training examples of the language model: prompts and targets in the very form in which they are asked for later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor

from vivavoce.model.grid import Groups, concatenate, speech_groups, text_groups
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
SHARES = {"cloned_speech": 0.55, "conversion": 0.3, "transcription": 0.1, "continuation": 0.05}  # of the tasks
IN_ROOMS = 0.25  # share of references and sources that are heard in a room with noise
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
    """Draws examples of the tasks from the clips of several corpora; each corpus has an equal share.

    Args:
        shares: of each task among the examples; conversions need pairs, and are left out where there are none.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        builder: PromptBuilder,
        config: LMConfig,
        special: SpecialIds,
        frame_rate: float,
        shares: Mapping[str, float] = SHARES,
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
        self._tasks = [name for name in shares if name != "conversion" or self._pairs]
        self._shares = np.array([shares[name] for name in self._tasks]) / sum(shares[name] for name in self._tasks)

    def draw(self, random: np.random.Generator) -> Example:
        """One example of a task; speech and conversions are given a reference of the same speaker."""
        while True:
            task = self._tasks[int(random.choice(len(self._tasks), p=self._shares))]
            source = None
            if task == "conversion":
                source, target = _one(_one(self._pairs, random), random)
            else:
                target = _one(_one(self._clips, random), random)
            pieces = self._pieces(target, random)
            if pieces is None or any(self._codes(piece).shape[1] < LEAST_FRAMES for piece in pieces):
                continue
            reference, wanted = pieces
            if task == "transcription":
                return self._transcription(wanted, random)
            if task == "continuation":
                return self._continuation(wanted, random)
            if source is None:
                return self._speech(wanted, self._reference(reference, random))
            given = self._given(Piece(source, wanted.start, wanted.end), random)
            if given.shape[1] >= LEAST_FRAMES:
                return self._conversion(given, wanted, self._reference(reference, random))

    def _speech(self, wanted: Piece, reference: ReferenceCodes) -> Example:
        ids, starts = self._said(wanted)
        answer = reading_groups(
            ids,
            starts,
            speech_groups(self._codes(wanted), self._config, self._special.empty),
            self._config.group_size / self._rate,
            self._config,
            self._special,
        )
        return self._answered("cloned_speech", Material("", None, (reference,)), answer, wanted)

    def _transcription(self, heard: Piece, random: np.random.Generator) -> Example:
        """Speech, then its words: text ids alone, as in the report's understanding stage."""
        answer = text_groups([*self._said(heard)[0], self._special.eot], self._config)
        return self._answered("transcription", Material("", self._given(heard, random)), answer, heard)

    def _continuation(self, wanted: Piece, random: np.random.Generator) -> Example:
        """The beginning of some speech, then the rest of it, without its words."""
        codes, size = self._codes(wanted), self._config.group_size
        cut = size * int(random.integers(1, codes.shape[1] // size))
        rest = Piece(wanted.clip, wanted.start + cut / self._rate, wanted.end)
        speech = speech_groups(codes[:, cut:], self._config, self._special.empty)
        answer = concatenate([speech, text_groups([self._special.eostm], self._config)])
        return self._answered("continuation", Material("", codes[:, :cut]), answer, rest)

    def _said(self, piece: Piece) -> tuple[list[int], list[float]]:
        """Text ids of a piece, and the seconds into it at which their sounds begin."""
        clip, first = piece.clip, round(piece.start * self._rate) / self._rate
        inside = [place for place, start in enumerate(clip.starts) if piece.start <= start < piece.end]
        ids = self._builder.token_ids("".join(clip.tokens[place] for place in inside))
        return ids, [clip.starts[place] - first for place in inside]

    def _answered(self, task: str, material: Material, answer: Groups, said: Piece) -> Example:
        prompt = self._prompt(task, material)
        free = torch.cat((torch.zeros(len(prompt), dtype=torch.bool), torch.ones(len(answer), dtype=torch.bool)))
        return self._example(concatenate([prompt, answer]), free, said)

    def _conversion(self, given: Tensor, wanted: Piece, reference: ReferenceCodes) -> Example:
        codes = self._codes(wanted)
        frames = min(codes.shape[1], given.shape[1])
        task = self._builder.profile.task("conversion")
        material = Material("", given[:, :frames], (reference,))
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

    def _reference(self, piece: Piece, random: np.random.Generator) -> ReferenceCodes:
        return ReferenceCodes(self._given(piece, random), "")

    def _given(self, piece: Piece, random: np.random.Generator) -> Tensor:
        """Codes of what is given and not taught, now and then in a room with noise."""
        return self._cut(piece.clip.rough_codes(), piece) if random.random() < IN_ROOMS else self._codes(piece)

    def _codes(self, piece: Piece) -> Tensor:
        return self._cut(piece.clip.codes(), piece)

    def _cut(self, codes: Tensor, piece: Piece) -> Tensor:
        return codes[:, round(piece.start * self._rate) : round(piece.end * self._rate)]

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

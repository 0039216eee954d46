"""A voice model: language model, audio tokenizer and prompt profile of one checkpoint folder.

The folder holds `lm/`, `tokenizer/` and `profile.json` (`{"model_id": ..., "profile": ...}`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vivavoce.model.checkpoint import CheckpointError
from vivavoce.model.errors import ModelError
from vivavoce.model.grid import join_grid, split_grid
from vivavoce.model.hearing import Hearing, audible
from vivavoce.model.packed import precision_for
from vivavoce.model.packed_lm import PackedLM
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.prompts import Material, Profile, PromptBuilder, ReferenceCodes, Task, load_profile, played
from vivavoce.model.rows import Continuation, Row
from vivavoce.model.text_tokenizer import TextTokenizer
from vivavoce.model.tokenizer import AudioTokenizer

ROWS = 8  # of an engine, where nobody says how many
LEAST_SECONDS = 0.5  # of output; less is no speech
SILENCE = 1e-3  # peak below which a wave is silent (-60 dB of full scale)
DISGUISE = 1.15  # factor on the sample rate that gives a reference clip another timbre


@dataclass(frozen=True)
class Reference:
    """A reference clip: wave float32[samples], mono; its words as far as they are known."""

    wave: Tensor
    sample_rate: int
    transcript: str


@dataclass(frozen=True)
class SpeechRequest:
    """Text to be spoken in the voice of the references, for at most `max_seconds`."""

    text: str
    references: tuple[Reference, ...]
    seed: int
    max_seconds: float = 30.0


@dataclass(frozen=True)
class ConversionRequest:
    """Speech float32[samples], mono, to be said again in the voice of the references."""

    wave: Tensor
    sample_rate: int
    references: tuple[Reference, ...]
    seed: int


Request = SpeechRequest | ConversionRequest


@dataclass(frozen=True)
class Generated:
    """Speech float32[samples], mono, in [-1, 1]; `length`: it was cut off at the longest that was allowed."""

    wave: Tensor
    sample_rate: int
    seconds: float
    finished: Literal["stop", "length"]


@dataclass(frozen=True)
class Plan:
    """A request as the batch takes it, and what is needed to read the result."""

    continuation: Continuation
    task: Task


class VoiceModel:
    """Turns requests into continuations of the language model, and these into waves. Not for several threads."""

    def __init__(
        self,
        lm: PatchLM,
        tokenizer: AudioTokenizer,
        text: TextTokenizer,
        profile: Profile,
        model_id: str,
        rows: int = ROWS,
    ) -> None:
        _check_codebooks(lm, tokenizer)
        self.lm = lm
        self.tokenizer = tokenizer
        self.profile = profile
        self.model_id = model_id
        self.packed = PackedLM(lm, precision_for(lm.device, rows))
        self._prompts = PromptBuilder(profile, lm.config, lm.special, text)

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str = "cpu", rows: int = ROWS) -> VoiceModel:
        """Load a voice model's folder, to run so many rows at once.

        Raises:
            CheckpointError: a part is missing, or the parts do not fit each other.
        """
        folder = Path(folder)
        path = folder / "profile.json"
        if not path.is_file():
            raise CheckpointError(f"{folder}: no profile.json in this folder")
        named = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            PatchLM.from_pretrained(folder / "lm", device),
            AudioTokenizer.from_pretrained(folder / "tokenizer", device),
            TextTokenizer.from_pretrained(folder / "lm"),
            load_profile(named["profile"]),
            named["model_id"],
            rows,
        )

    @property
    def patch_seconds(self) -> float:
        """Seconds of audio in one patch."""
        return self.lm.config.group_size / self.tokenizer.frame_rate

    def plan(self, request: Request) -> Plan:
        """Encode a request's audio and build its prompt.

        Raises:
            ModelError: the request cannot be carried out: no text, no reference, bad audio, too long for the context.
        """
        if not 0 <= request.seed < 2**63:
            raise ModelError("a seed is a number from 0 to 2**63 - 1")
        if not request.references:
            raise ModelError("a voice needs at least one reference clip")
        if isinstance(request, SpeechRequest):
            return self._plan_speech(request)
        return self._plan_conversion(request)

    def _plan_speech(self, request: SpeechRequest) -> Plan:
        text = " ".join(request.text.split())
        if not text:
            raise ModelError("there is no text to speak")
        if not request.max_seconds >= LEAST_SECONDS:
            raise ModelError(f"max_seconds must be at least {LEAST_SECONDS}")
        task = self.profile.task("cloned_speech")
        material = Material(text, None, self._references(task, request.references))
        return self._finish_plan(task, material, len(text), request.max_seconds, request.seed)

    def _plan_conversion(self, request: ConversionRequest) -> Plan:
        task = self.profile.task("conversion")
        source = self.tokenizer.encode(request.wave, request.sample_rate).cpu()
        references = self._references(task, request.references)
        seconds = source.shape[1] / self.tokenizer.frame_rate
        if seconds < LEAST_SECONDS:
            raise ModelError(f"{seconds:.2f} s of speech are too few to convert")
        return self._finish_plan(task, Material("", source, references), seconds, math.inf, request.seed)

    def _references(self, task: Task, references: tuple[Reference, ...]) -> tuple[ReferenceCodes, ...]:
        """Encode reference clips, in order, as far as the profile's seconds reach."""
        left = self.profile.reference_seconds
        encoded: list[ReferenceCodes] = []
        for reference in references:
            if left < LEAST_SECONDS and encoded:
                break
            wave = reference.wave[: int(left * reference.sample_rate)]
            codes = self.tokenizer.encode(wave, reference.sample_rate).cpu()
            left -= len(wave) / reference.sample_rate
            disguised = None
            if task.wants("disguised"):
                disguised = self.tokenizer.encode(wave, round(reference.sample_rate * DISGUISE)).cpu()
            encoded.append(ReferenceCodes(codes, reference.transcript, disguised))
        return tuple(encoded)

    def _finish_plan(self, task: Task, material: Material, size: float, max_seconds: float, seed: int) -> Plan:
        prompt = self._prompts.build(task, material)
        least = max(LEAST_SECONDS, min(size * task.pace[0], max_seconds))
        most = max(least, min(size * task.pace[1], max_seconds))
        least_patches, most_patches = (math.ceil(seconds / self.patch_seconds) for seconds in (least, most))
        chance = torch.Generator().manual_seed(seed)
        if task.output == "script" and material.source is not None:
            script = self._prompts.script(task, material.source)
            wish = Continuation(join_grid(prompt), len(script), task.sampling, frozenset(), chance, script=script)
        elif task.output == "reading":
            reading = self._prompts.reading(material.text, most_patches)
            room, stops = reading.most_groups, self._prompts.stop_ids(task)
            wish = Continuation(join_grid(prompt), room, task.sampling, stops, chance, reading=reading)
        else:
            # The words of a stream come beside its patches; a prompt is longer than the words it asks for.
            room, stops = most_patches + len(prompt), self._prompts.stop_ids(task)
            wish = Continuation(join_grid(prompt), room, task.sampling, stops, chance, least_patches)
        return Plan(wish, task)

    def read(self, plan: Plan, row: Row, hearing: Hearing | None = None) -> Generated:
        """Decode what a row has generated; who hears it while it is made hears the last of it here.

        Raises:
            ModelError: it is no speech: too short, silent, or not finite.
        """
        if row.finished not in ("stop", "length"):
            raise ModelError("the model's output is not finite")
        codes = self._played(plan, row)
        if codes.shape[1] < LEAST_SECONDS * self.tokenizer.frame_rate:
            raise ModelError(f"the model produced {codes.shape[1] / self.tokenizer.frame_rate:.2f} s of speech")
        if hearing is None:
            wave = audible(self.tokenizer.decode(codes.to(self.lm.device)))
        else:
            self._hear([(hearing, codes)], last=True)
            if hearing.error is not None:
                raise hearing.error
            wave = hearing.wave()
        if float(wave.abs().max()) < SILENCE:
            raise ModelError("the model produced silence")
        rate = self.tokenizer.sample_rate
        return Generated(wave, rate, len(wave) / rate, row.finished)

    def let_hear(self, rows: Sequence[tuple[Plan, Row, Hearing]]) -> None:
        """Let rows that are not finished be heard as far as they have come; those with enough for another piece.

        One that cannot be heard any more says so in its `error`. Where this raises, none was heard.
        """
        size, held_back = self.lm.config.group_size, self.tokenizer.right_context
        due = [(plan, row, hearing) for plan, row, hearing in rows if hearing.due(len(row.text), size, held_back)]
        rows_heard = [(hearing, self._played(plan, row)) for plan, row, hearing in due]
        self._hear([(hearing, codes) for hearing, codes in rows_heard if codes.shape[1] > hearing.frames], last=False)
        for _, row, hearing in due:
            hearing.groups = len(row.text)

    def _hear(self, rows: Sequence[tuple[Hearing, Tensor]], last: bool) -> None:
        chunks = [(codes[:, hearing.frames :], hearing.stream, last) for hearing, codes in rows]
        for samples, (hearing, codes) in zip(self.tokenizer.decode_chunks(chunks), rows, strict=True):
            hearing.frames = codes.shape[1]
            hearing.give(samples)

    def _played(self, plan: Plan, row: Row) -> Tensor:
        groups = split_grid(row.grid(), self.lm.config)
        return played(groups, self.lm.special, speaking=plan.task.opens_speech)


def default_folder() -> Path:
    """The checkpoint that ships in the package."""
    return Path(__file__).parent / "weights" / "mini"


def _check_codebooks(lm: PatchLM, tokenizer: AudioTokenizer) -> None:
    """The language model's ids, "zero" aside, must be those of the tokenizer's first codebooks."""
    sizes = tokenizer.config.codebook_sizes
    if lm.config.channels > len(sizes):
        raise CheckpointError(f"the language model writes {lm.config.channels} codebooks of {len(sizes)}")
    for channel, (size, zero) in enumerate(zip(lm.config.code_sizes, lm.config.zero_ids, strict=True)):
        if (size, zero) != (sizes[channel] + 1, sizes[channel]):
            raise CheckpointError(
                f"channel {channel} of the language model does not fit a codebook of {sizes[channel]}"
            )

"""The measurements: the tokenizer's resynthesis, speech in unseen voices, conversions between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.voice.measures import Ears, Sound, pesq_and_stoi, word_errors
from benchmarks.voice.texts import SENTENCES
from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder
from vivavoce.model.voice_model import ConversionRequest, Reference, SpeechRequest, VoiceModel

REFERENCE_SECONDS = 3.2
SOURCE_SECONDS = 5.0


@dataclass(frozen=True)
class Speaker:
    """A voice that no training has heard: a recording of at least 8 s."""

    name: str
    sound: Sound

    @property
    def reference(self) -> Sound:
        """What the model is given."""
        return self.sound.part(0, REFERENCE_SECONDS)

    @property
    def rest(self) -> Sound:
        """What it is not given."""
        return self.sound.part(REFERENCE_SECONDS, REFERENCE_SECONDS + SOURCE_SECONDS)


@dataclass
class Row:
    """Figures of one kind of sound.

    Attributes:
        errors: word errors and words, per sound.
        alike: cosine to the speaker that it should be.
        other: cosine to a speaker that it should not be: for conversions the source.
        pesq, stoi: against the original, where there is one.
        failed: requests that gave no sound.
        seconds, spent: length of the sounds, and processor time for them.
    """

    errors: list[tuple[int, int]] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    pesq: list[float] = field(default_factory=list)
    stoi: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    spent: float = 0.0


def speak(model: VoiceModel, request: SpeechRequest | ConversionRequest) -> Sound:
    """Carry out one request alone."""
    plan = model.plan(request)
    decoder = Decoder(model.lm)
    row = decoder.join(plan.continuation)
    while decoder.rows:
        decoder.step()
    made = model.read(plan, row)
    return Sound(made.wave.numpy(), made.sample_rate)


def measure(model: VoiceModel, speakers: Sequence[Speaker], sentences: int, out: Path) -> dict[str, Row]:
    """Measure everything; the sounds are kept in `out`."""
    ears, rows = Ears(), {name: Row() for name in ("original", "stranger", "resynthesis", "speech", "conversion")}
    vectors = [ears.speaker(speaker.reference) for speaker in speakers]
    for number, speaker in enumerate(speakers):
        said, rest = ears.words(speaker.rest), speaker.rest
        rows["original"].alike.append(float(vectors[number] @ ears.speaker(rest)))
        rows["stranger"].alike.append(float(vectors[number] @ vectors[number - 1]))
        _resynthesised(model, rest, said, ears, rows["resynthesis"])
        reference = (_given(speaker.reference),)
        for place in range(sentences):
            text = SENTENCES[(number * sentences + place) % len(SENTENCES)]
            asked: SpeechRequest | ConversionRequest = SpeechRequest(text, reference, seed=place)
            made = _made(model, asked, rows["speech"], out / f"speech-{speaker.name}-{place}.wav")
            if made is not None:
                rows["speech"].errors.append(word_errors(text, ears.words(made)))
                rows["speech"].alike.append(float(vectors[number] @ ears.speaker(made)))
        target = (number + 1) % len(speakers)
        asked = ConversionRequest(
            torch.from_numpy(rest.samples), rest.rate, (_given(speakers[target].reference),), seed=number
        )
        made = _made(model, asked, rows["conversion"], out / f"conversion-{speaker.name}.wav")
        if made is not None:
            heard = ears.speaker(made)
            rows["conversion"].errors.append(word_errors(said, ears.words(made)))
            rows["conversion"].alike.append(float(vectors[target] @ heard))
            rows["conversion"].other.append(float(vectors[number] @ heard))
    return rows


def _given(sound: Sound) -> Reference:
    return Reference(torch.from_numpy(np.ascontiguousarray(sound.samples)), sound.rate, "")


def _resynthesised(model: VoiceModel, original: Sound, said: str, ears: Ears, row: Row) -> None:
    tokenizer = model.tokenizer
    began = time.process_time()
    codes = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(original.samples)), original.rate)
    made = Sound(tokenizer.decode(codes[: model.lm.config.channels]).numpy(), tokenizer.sample_rate)
    row.spent += time.process_time() - began
    row.seconds += made.seconds
    row.errors.append(word_errors(said, ears.words(made)))
    row.alike.append(float(ears.speaker(original) @ ears.speaker(made)))
    judged = pesq_and_stoi(original, made)
    if judged is not None:
        row.pesq.append(judged[0])
        row.stoi.append(judged[1])


def _made(model: VoiceModel, request: SpeechRequest | ConversionRequest, row: Row, path: Path) -> Sound | None:
    import soundfile

    began = time.process_time()
    try:
        made = speak(model, request)
    except ModelError:
        row.failed += 1
        return None
    row.spent += time.process_time() - began
    row.seconds += made.seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, made.samples, made.rate)
    return made

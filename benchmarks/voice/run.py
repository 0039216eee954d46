"""The measurements: the tokenizer's resynthesis, speech in unseen voices, conversions between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.voice.measures import Ears, Sound, dnsmos, pesq_and_stoi, word_errors
from benchmarks.voice.speakers import Speaker, another
from benchmarks.voice.texts import SENTENCES
from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder
from vivavoce.model.hearing import Hearing
from vivavoce.model.voice_model import ConversionRequest, Reference, SpeechRequest, VoiceModel
from vivavoce.verification.speakers import Vector

KINDS = "original", "stranger", "resynthesis", "speech", "conversion"


@dataclass
class Row:
    """Figures of one kind of sound.

    Attributes:
        errors: word errors and words, per sound.
        alike: cosine to the speaker that it should be.
        other: cosine to a speaker that it should not be: for conversions the source.
        pesq, stoi: against the original, where there is one.
        mos: DNSMOS overall.
        failed: requests that gave no sound.
        seconds, spent: length of the sounds, and processor time for them.
        first: processor time until the first sound of each.
    """

    errors: list[tuple[int, int]] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    pesq: list[float] = field(default_factory=list)
    stoi: list[float] = field(default_factory=list)
    mos: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    first: list[float] = field(default_factory=list)

    def __add__(self, other: Row) -> Row:
        """Figures of both."""
        return Row(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})


def speak(model: VoiceModel, request: SpeechRequest | ConversionRequest) -> Sound:
    """Carry out one request alone."""
    plan = model.plan(request)
    decoder = Decoder(model.packed)
    row = decoder.join(plan.continuation)
    while decoder.rows:
        decoder.step()
    made = model.read(plan, row)
    return Sound(made.wave.numpy(), made.sample_rate)


def first_sound(model: VoiceModel, request: SpeechRequest | ConversionRequest) -> float:
    """Processor seconds until somebody who listens hears the first of it."""
    began, heard = time.process_time(), []
    plan, hearing = model.plan(request), Hearing(lambda _: heard.append(time.process_time() - began))
    decoder = Decoder(model.packed)
    row = decoder.join(plan.continuation)
    while decoder.rows and not heard:
        decoder.step()
        model.let_hear([(plan, row, hearing)])
    if not heard:  # it was shorter than a first piece
        model.read(plan, row, hearing)
    return heard[0]


def measure(model: VoiceModel, speakers: Sequence[Speaker], sentences: int, out: Path) -> list[dict[str, Row]]:
    """Measure everything, each speaker alone; the sounds are kept in `out`, by kind and speaker."""
    ears = Ears()
    vectors = [ears.speaker(speaker.reference) for speaker in speakers]
    measured = []
    for number, speaker in enumerate(speakers):
        rows = {kind: Row() for kind in KINDS}
        rest, said = speaker.rest, speaker.said
        if said is None:
            said = ears.words(rest)
        else:
            rows["original"].errors.append(word_errors(said, ears.words(rest)))
        rows["original"].alike.append(float(vectors[number] @ ears.speaker(rest)))
        rows["original"].mos.extend(dnsmos(rest))
        rows["stranger"].alike.append(float(vectors[number] @ vectors[another(speakers, number, -1)]))
        keep(rest, out, "original", speaker)
        keep(_resynthesised(model, rest, said, ears, rows["resynthesis"]), out, "resynthesis", speaker)
        for place in range(sentences):
            text = SENTENCES[(number * sentences + place) % len(SENTENCES)]
            asked = SpeechRequest(text, (_given(speaker.reference),), seed=place)
            made = _made(model, asked, rows["speech"])
            if made is not None:
                keep(made, out, "speech", speaker)
                _heard(made, text, vectors[number], ears, rows["speech"])
        target = another(speakers, number, 1)
        wave = torch.from_numpy(np.ascontiguousarray(rest.samples))
        turned = ConversionRequest(wave, rest.rate, (_given(speakers[target].reference),), seed=number)
        made = _made(model, turned, rows["conversion"])
        if made is not None:
            keep(made, out, "conversion", speaker)
            vector = _heard(made, said, vectors[target], ears, rows["conversion"])
            rows["conversion"].other.append(float(vectors[number] @ vector))
        measured.append(rows)
    return measured


def _heard(made: Sound, text: str, wanted: Vector, ears: Ears, row: Row) -> Vector:
    vector = ears.speaker(made)
    row.errors.append(word_errors(text, ears.words(made)))
    row.alike.append(float(wanted @ vector))
    row.mos.extend(dnsmos(made))
    return vector


def _given(sound: Sound) -> Reference:
    return Reference(torch.from_numpy(np.ascontiguousarray(sound.samples)), sound.rate, "")


def keep(sound: Sound, out: Path, kind: str, speaker: Speaker) -> None:
    """Write a sound to be listened to and drawn; the last one of a kind and speaker stays."""
    out.mkdir(parents=True, exist_ok=True)
    soundfile.write(out / f"{kind}-{speaker.name}.wav", sound.samples, sound.rate)


def _resynthesised(model: VoiceModel, original: Sound, said: str, ears: Ears, row: Row) -> Sound:
    tokenizer = model.tokenizer
    began = time.process_time()
    codes = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(original.samples)), original.rate)
    made = Sound(tokenizer.decode(codes[: model.lm.config.channels]).numpy(), tokenizer.sample_rate)
    row.spent += time.process_time() - began
    row.seconds += made.seconds
    row.errors.append(word_errors(said, ears.words(made)))
    row.alike.append(float(ears.speaker(original) @ ears.speaker(made)))
    row.mos.extend(dnsmos(made))
    judged = pesq_and_stoi(original, made)
    if judged is not None:
        row.pesq.append(judged[0])
        row.stoi.append(judged[1])
    return made


def _made(model: VoiceModel, request: SpeechRequest | ConversionRequest, row: Row) -> Sound | None:
    began = time.process_time()
    try:
        made = speak(model, request)
        spent = time.process_time() - began
        row.first.append(first_sound(model, request))
    except ModelError:
        row.failed += 1
        return None
    row.spent += spent
    row.seconds += made.seconds
    return made

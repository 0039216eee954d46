"""A corpus of the teacher's speech: planned by a seed, made by several processes, gone on with where it stopped.

A folder holds `audio/ID.flac` and `manifest.jsonl`, one line an utterance, written once its audio is complete:
`id`, `text`, `tokens` and `starts` (spoken tokens and the millisecond in which each begins), `speaker`, `prosody`,
`seconds`, `pair` (the utterance that says the same in another voice in exactly the same time) and `split`: `train`,
or `held out` where both the voices and the sentences are kept for measuring. Utterance N is the same in every run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from vivavoce.model.errors import ModelError
from vivavoce.model.spoken import spoken
from vivavoce.model.training.clips import MANIFEST, Line, read_manifest
from vivavoce.model.training.synth import texts, voices
from vivavoce.model.training.synth.teacher import SAMPLE_RATE, Teacher

HELD_OUT_SHARE = 0.04  # of the utterances
LETTERS = 110  # that an utterance has at most, unless one sentence alone has more


@dataclass(frozen=True)
class Sources:
    """Where the teacher, its voices and the sentences are."""

    graph: Path
    vocabulary: Path
    voices: Path
    wordnet: Path


@dataclass(frozen=True)
class Utterance:
    """One text and who says it."""

    number: int
    text: str
    cast: voices.Cast
    held_out: bool


def plan(sources: Sources, count: int, seed: int) -> list[Utterance]:
    """The first `count` utterances of the corpus with this seed."""
    found = texts.wordnet(sources.wordnet)
    order = np.random.default_rng(seed).permutation(len(found))
    pools = {
        held_out: iter([found[place] for place in order if texts.is_held_out(found[place]) == held_out])
        for held_out in (False, True)
    }
    known = {held_out: voices.names(sources.voices, held_out=held_out) for held_out in (False, True)}
    planned = []
    for number in range(count):
        random = np.random.default_rng((seed, number))
        held_out = bool(random.random() < HELD_OUT_SHARE)
        text = _text(pools[held_out], random)
        if text is None:
            raise ModelError(f"the sentences are enough for {number} utterances, not for {count}")
        cast = voices.draw_cast(known[held_out], random, mixtures=not held_out)
        planned.append(Utterance(number, text, cast, held_out))
    return planned


def _text(pool: Iterator[str], random: np.random.Generator) -> str | None:
    joined: list[str] = []
    wanted = int(random.integers(1, 4))
    while len(joined) < wanted and sum(map(len, joined)) < LETTERS / 2:
        sentence = next(pool, None)
        if sentence is None:
            break
        joined.append(sentence)
    return " ".join(joined) or None


def make(sources: Sources, planned: list[Utterance], out: Path, processes: int) -> Iterator[Line]:
    """Make what is not there yet; yields each new line of the manifest after it was written."""
    (out / "audio").mkdir(parents=True, exist_ok=True)
    manifest = out / MANIFEST
    done = {line["id"] for line in read_manifest(manifest)} if manifest.is_file() else set()
    left = [one for one in planned if not {_name(one, place) for place in range(len(one.cast.timbres))} <= done]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _start, (sources, out)) as pool, manifest.open("a", encoding="utf-8") as file:
        for lines in pool.imap_unordered(_say, left):
            for line in lines:
                if line["id"] not in done:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    file.flush()
                    yield line


_teacher: Teacher
_sources: Sources
_out: Path


def _start(sources: Sources, out: Path) -> None:
    global _teacher, _sources, _out
    os.environ["OMP_NUM_THREADS"] = "1"
    _teacher, _sources, _out = Teacher(sources.graph, sources.vocabulary), sources, out


def _say(one: Utterance) -> list[Line]:
    """All voices of one utterance; none where its text cannot be read."""
    try:
        tokens = spoken(one.text)
        length = len(_teacher.ids(tokens)) - 2
    except (ModelError, ValueError):
        return []
    return [_say_as(one, place, tokens, length) for place in range(len(one.cast.timbres))]


def _say_as(one: Utterance, place: int, tokens: list[str], length: int) -> Line:
    cast, name = one.cast, _name(one, place)
    style = voices.style(_sources.voices, cast.timbres[place], cast.prosody, length)
    said = _teacher.say(tokens, style, 1 / cast.warp)
    wave = soxr.resample(said.wave, SAMPLE_RATE * cast.warp, SAMPLE_RATE) if cast.warp != 1 else said.wave
    half = _out / "audio" / f"{name}.half.flac"
    soundfile.write(half, np.clip(wave, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    half.replace(_out / "audio" / f"{name}.flac")
    line = {
        "id": name,
        "text": one.text,
        "tokens": tokens,
        "starts": np.round(1000 * said.starts / cast.warp).astype(int).tolist(),
        "speaker": f"{cast.timbres[place].name}*{cast.warp}",
        "prosody": cast.prosody,
        "seconds": round(len(wave) / SAMPLE_RATE, 3),
        "split": "held out" if one.held_out else "train",
    }
    if len(cast.timbres) > 1:
        line["pair"] = _name(one, 1 - place)
    return line


def _name(one: Utterance, place: int) -> str:
    return f"{one.number:06d}{'ab'[place]}"

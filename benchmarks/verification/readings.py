"""How often a willing speaker is asked again, and whether words that were not said are heard.

The speakers are synthetic: a teacher (Kokoro-82M) reads real statements with one-time words, in its English voices. It
never mumbles, stumbles or stops, so people will be asked again more often; what whisper mishears, it mishears here too.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.marks.codecs import coded
from vivavoce.consent.scope import Purpose
from vivavoce.consent.statements import Reading, Terms, compose, spoken_form
from vivavoce.consent.statements.catalogue import WORDS, catalogue
from vivavoce.model.spoken import spoken
from vivavoce.model.training.synth import voices
from vivavoce.model.training.synth.teacher import SAMPLE_RATE, Teacher
from vivavoce.policy.heard_words import words_heard, words_stretch
from vivavoce.policy.verification import Judgement, Measured, judge
from vivavoce.sound import Samples, resample
from vivavoce.verification.recordings import RATE, Spoken, clipped, find_speech, quality
from vivavoce.verification.speakers import SpeakerVerifier
from vivavoce.verification.splices import Unity, unity
from vivavoce.verification.transcription import Transcriber

NAMES = (
    *("Anna Baker", "John Carter", "Maria Lopez", "Peter Novak", "Susan Miller", "David Clarke", "Priya Sharma"),
    *("Thomas Weber", "Emily Brown", "Ahmed Hassan", "Olga Ivanova", "Michael Green", "Laura Rossi", "James Wilson"),
    *("Chen Wei", "Sarah Johnson"),
)
COMPANIES = ("Northwind Audio", "Bright Books Limited", "Harbour Media", "Green Valley Radio")
SPEEDS = (0.85, 1.1)
NOISE_DB = 20.0
"""Noise below the speech."""


@dataclass(frozen=True)
class Made:
    """A reading: float32[n] at 16 kHz, and what was to be read."""

    wave: Samples
    shown: Reading


def make(teacher: Teacher, folder: Path, out: Path, count: int) -> None:
    """Write readings as `N.flac` and `N.json`, those that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    names = sorted(voices.names(folder, held_out=False) + voices.names(folder, held_out=True))
    for number in range(count):
        if (out / f"{number:03}.json").is_file():
            continue
        drawn = random.Random(number)  # noqa: S311 - a benchmark's, to be the same again
        table = np.fromfile(folder / f"{names[number % len(names)]}.bin", dtype=np.float32).reshape(-1, 1, 256)
        shown, waves = _drawn(drawn), list[Samples]()
        for sentence in shown.text.replace(". ", ".\n").splitlines():
            tokens = spoken(sentence)
            style = table[len(teacher.ids(tokens)) - 2]
            waves.append(teacher.say(tokens, style, drawn.uniform(*SPEEDS)).wave)
        soundfile.write(out / f"{number:03}.flac", np.concatenate(waves), SAMPLE_RATE, subtype="PCM_16")
        (out / f"{number:03}.json").write_text(json.dumps(asdict(shown)), encoding="utf-8")


def _drawn(drawn: random.Random) -> Reading:
    words = drawn.sample(catalogue("en").words, WORDS)
    name, company = drawn.choice(NAMES), drawn.choice(COMPANIES)
    purposes = frozenset(drawn.sample(list(Purpose), drawn.choice((1, 1, 2))))
    until = date(2027, drawn.randint(1, 12), drawn.randint(1, 28))
    return compose("en", Terms(name, company, purposes, until), words)


def readings(folder: Path) -> Iterator[Made]:
    """Read what `make` wrote."""
    for path in sorted(folder.glob("*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        said["words"] = tuple(said["words"])
        wave, rate = soundfile.read(path.with_suffix(".flac"), dtype="float32")
        yield Made(resample(wave, rate, RATE), Reading(**said))


def through(wave: Samples) -> Mapping[str, Samples]:
    """A reading as it comes, and on its way through worse microphones and lines."""
    hiss = np.random.default_rng(1).standard_normal(len(wave)).astype(np.float32)
    level = np.sqrt(np.mean(wave[find_speech(wave)] ** 2)) * 10 ** (-NOISE_DB / 20)
    phone = resample(resample(wave, RATE, 8_000), 8_000, RATE)[: len(wave)]
    mp3, rate = coded(wave, RATE, muxer="mp3", codec="libmp3lame", bits_per_second=64_000)
    return {
        "as it is": wave,
        f"white noise {NOISE_DB:g} dB below": np.clip(wave + level * hiss, -1, 1).astype(np.float32),
        "MP3 64 kbit/s": resample(mp3, rate, RATE),
        "8 kHz, as a telephone": phone,
    }


def measure(verifier: SpeakerVerifier, transcriber: Transcriber, made: Sequence[Made]) -> None:
    """Print verdicts and reasons by condition, and how often a word that was not said is heard in one's place.

    Parts are compared in readings as they are; whisper is what the conditions are hard for.
    """
    judged: dict[str, list[Judgement]] = {}
    parts: list[Unity] = []
    wrong = heard = 0
    for one in made:
        for name, wave in through(one.wave).items():
            spoken_here, said = find_speech(wave), transcriber.transcribe(wave, RATE, "en")
            found = Unity()
            if wave is one.wave:
                found = unity(verifier, wave, RATE, spoken_here, words_stretch(said.pieces, one.shown, RATE))
                parts.append(found)
            ends = judge(_measured(wave, spoken_here, said.text, found), one.shown)
            judged.setdefault(name, []).append(ends)
            tried, taken = _wrong_words(spoken_form(said.text, "en"), one.shown)
            wrong, heard = wrong + tried, heard + taken
    print(f"\nwilling speakers, synthetic: {len(made)} readings")
    for name, all_ends in judged.items():
        verdicts = Counter(one.verdict for one in all_ends)
        reasons = Counter(why for one in all_ends for why in one.reasons)
        print(f"  {name:24} {dict(verdicts)}, because {dict(reasons)}")
    print(f"  another word asked for than was said: all four heard {heard:,} of {wrong:,}")
    for part in ("stretch", "window", "halves"):
        kept = [likeness for found in parts if (likeness := getattr(found, part)) is not None]
        print(f"  cosine {part}: least {min(kept):.3f}, median {np.median(kept):.3f}, of {len(kept)}")


def _measured(wave: Samples, spoken_here: Spoken, said: str, parts: Unity) -> Measured:
    sound = quality(wave, spoken_here)
    return Measured(sound.speech_seconds, sound.level_db, clipped(wave), sound.snr_db, False, said, parts, {})


def _wrong_words(said: str, shown: Reading) -> tuple[int, int]:
    """Ask for each other word of the list in each place; returns how many were asked for, and how many were heard.

    Words that the text has are never drawn beside it.
    """
    tried = taken = 0
    others = set(catalogue("en").words) - set(spoken_form(shown.text, "en").split())
    for place in range(len(shown.words)):
        for word in others:
            asked = (*shown.words[:place], word, *shown.words[place + 1 :])
            other = Reading(shown.language, shown.statement_version, shown.text, asked, "", "")
            tried, taken = tried + 1, taken + (words_heard(said, other) == len(asked))
    return tried, taken

"""`python -m benchmarks.verification FOLDER [--readings FOLDER]`: how far the verification of a consent can be trusted.

`FOLDER` holds recordings named SPEAKER-anything, such as LibriSpeech's: are two recordings taken for one speaker's, and
is one that was joined of two found out? `--readings` measures one-time words on synthetic readings, which
`--teacher GRAPH VOCABULARY VOICES --make N` writes there first (where these come from is in the voice model's card).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile
import torch

from benchmarks.verification import pairs, readings, splices
from vivavoce.model.training.synth.teacher import Teacher
from vivavoce.sound import Samples, resample
from vivavoce.verification.recordings import RATE
from vivavoce.verification.speakers import MODEL, SpeakerVerifier
from vivavoce.verification.transcription import Transcriber

SUFFIXES = {".flac", ".wav", ".ogg", ".opus"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--readings", type=Path)
    parser.add_argument("--teacher", type=Path, nargs=3, metavar=("GRAPH", "VOCABULARY", "VOICES"))
    parser.add_argument("--make", type=int, default=0, metavar="N")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.teacher:
        graph, vocabulary, voices = asked.teacher
        readings.make(Teacher(graph, vocabulary), voices, asked.readings, asked.make)
    verifier = SpeakerVerifier.open()
    if asked.folder:
        _speakers(verifier, sorted(path for path in asked.folder.rglob("*") if path.suffix in SUFFIXES))
    if asked.readings:
        readings.measure(verifier, Transcriber.open(), list(readings.readings(asked.readings)))


def _speakers(verifier: SpeakerVerifier, files: list[Path]) -> None:
    speakers = len({path.name.partition("-")[0] for path in files})
    print(f"{MODEL}, {len(files)} recordings of {speakers} speakers")
    for seconds in (None, pairs.SHORT):
        pairs.measure(verifier, files, seconds)
    found = [splices.speech_of(path.name, _mono(path)) for path in files]
    long = [one for one in found if one is not None]
    print(f"\n{len(long)} recordings with {splices.LEAST_SECONDS:g} s of speech or more")
    splices.measure_words(verifier, long)
    splices.measure_stretches(verifier, long)


def _mono(path: Path) -> Samples:
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(wave.mean(1), rate, RATE)


if __name__ == "__main__":
    main()

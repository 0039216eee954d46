"""An hour of sound through `vivavoce detect`: how long it takes, and how much memory.

python -m benchmarks.long_sound [--minutes 60] [--unmarked]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from vivavoce.ledger.keys import KeyRing
from vivavoce.sound import SPEECH_RATE, Samples, decode, resample
from vivavoce.watermark import Marker
from vivavoce.watermark.streaming import MarkStream

SPEECH = Path(__file__).parents[1] / "tests/data/speech"
IDENTITY = 0xA659_1234_5678


def main() -> None:
    """Write a long file of real speech, look for its mark in another process, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--unmarked", action="store_true", help="Speech without a mark, for which every warp is tried.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        keyring = KeyRing.open(home / "keys", create=True)
        stream = None if asked.unmarked else Marker.load(secret=keyring.mark_key).stream(SPEECH_RATE, IDENTITY)
        seconds = _write(home / "long.flac", 0.5 * _speech(), 60 * asked.minutes, stream)
        began = time.perf_counter()
        found = _detect(home)
        took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"{seconds / 60:.1f} minutes of sound, FLAC at 24 kHz: {found['verdict']}, score {found['score']:.1f}")
    print(f"{took:.0f} s, real-time factor {took / seconds:.3f}; {peak:.0f} MB at most")


def _speech() -> Samples:
    clips = [decode(path.read_bytes()) for path in sorted(SPEECH.glob("*.flac"))]
    return np.concatenate([resample(clip.samples, clip.sample_rate, SPEECH_RATE) for clip in clips])


def _write(path: Path, speech: Samples, seconds: float, stream: MarkStream | None) -> float:
    """The same speech again and again, up to a length, marked as one sound; returns the length in seconds."""
    given = 0
    with soundfile.SoundFile(path, "w", SPEECH_RATE, 1, "PCM_16", format="FLAC") as file:
        while given < seconds * SPEECH_RATE:
            part = speech[: round(seconds * SPEECH_RATE) - given]
            file.write(stream.feed(part) if stream else part)
            given += len(part)
        if stream:
            file.write(stream.finish())
    return given / SPEECH_RATE


def _detect(home: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "vivavoce.cli", "detect", str(home / "long.flac"), "--json"]
    environment = os.environ | {"VIVAVOCE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    with contextlib.suppress(json.JSONDecodeError):
        finding: dict[str, float] = json.loads(done.stdout)
        return finding
    raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()

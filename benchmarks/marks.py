"""How often the mark is found in each format, and how often where there is none: `python -m benchmarks.marks FOLDER...`

Each clip is marked and encoded as a release would do it, then decoded and looked at; and the same without the mark.
The clips are those of the folders that training never reads (one of ten files, by a hash of its name), at 24 kHz.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vivavoce.release.marking import si_snr_db
from vivavoce.sound import FORMATS, SPEECH_RATE, decode, encode, resample
from vivavoce.watermark import Detection, Marker
from vivavoce.watermark.training.export import held_out_clips

Samples = NDArray[np.float32]


def looked_at(marker: Marker, samples: Samples, form: str) -> Detection:
    """What is detected in a file of these samples; `none` stands for the samples themselves."""
    if form == "none":
        return marker.detect(samples, SPEECH_RATE)
    data = encode(samples, SPEECH_RATE, form)  # type: ignore[arg-type]
    if form == "pcm":
        return marker.detect(np.asarray(np.frombuffer(data, "<i2") / 32768, dtype=np.float32), SPEECH_RATE)
    sound = decode(data)
    return marker.detect(sound.samples, sound.sample_rate)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, help="a folder of weights instead of the shipped ones")
    parser.add_argument("--clips", type=int, default=100)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    marker = Marker.load(asked.weights)
    clips = [resample(clip, 16_000, SPEECH_RATE) for clip in held_out_clips(asked.folders, asked.clips)]
    found: dict[str, list[tuple[bool, bool, float, bool, float]]] = defaultdict(list)
    quality, spent = [], 0.0
    for number, clip in enumerate(track(clips, "marking")):
        message = int(np.random.default_rng((0, number)).integers(0, 2**marker.bits))
        began = time.process_time()
        marked = marker.embed(clip, SPEECH_RATE, message)
        spent += time.process_time() - began
        quality.append(si_snr_db(clip, marked))
        for form in ("none", *FORMATS):
            ours, other = looked_at(marker, marked, form), looked_at(marker, clip, form)
            wrong = bin((ours.message or 0) ^ message).count("1") if ours.found else marker.bits
            found[form].append((ours.found, other.found, 1 - wrong / marker.bits, wrong == 0, other.score))
    table = Table("format", "marked: found", "unmarked: found", "bits right", "message right", "highest unmarked score")
    for form, rows in found.items():
        hits, false, bits, exact, score = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
        counts = [f"{int(part.sum())} of {len(part)}" for part in (hits, false)]
        table.add_row(form, *counts, f"{bits.mean():.3f}", f"{exact.mean():.3f}", f"{score.max():.3f}")
    console = Console()
    console.print(table)
    seconds = sum(len(clip) for clip in clips) / SPEECH_RATE
    console.print(
        f"{marker.model_id}, threshold {marker.threshold}, {len(clips)} clips, SI-SNR mean {np.mean(quality):.1f} dB, "
        f"lowest {np.min(quality):.1f} dB; embedding takes {spent / seconds:.3f} of the sound's length on one thread"
    )


if __name__ == "__main__":
    main()

"""How often two recordings are taken for one speaker's.

Each recording is cut into halves: two halves of one speaker are genuine pairs, first and second halves of different
speakers impostors. Printed with counts, at the two thresholds that consent uses, for whole halves and for 3 s of each.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from vivavoce.policy.likeness import OTHER, SAME
from vivavoce.verification.speakers import SpeakerVerifier

SHORT = 3.0  # seconds


def halves(path: Path, seconds: float | None) -> list[tuple[NDArray[np.float32], int]]:
    """Both halves of a recording, or `seconds` of each."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = wave.mean(1)
    middle = len(mono) // 2
    parts = mono[:middle], mono[middle:]
    return [(part if seconds is None else part[: round(seconds * rate)], rate) for part in parts]


def measure(verifier: SpeakerVerifier, files: list[Path], seconds: float | None) -> None:
    """Print the figures of one length."""
    began = time.process_time()
    vectors = [[verifier.vector(*half) for half in halves(file, seconds)] for file in files]
    spent = (time.process_time() - began) / (2 * len(files))
    one, other = (np.stack([pair[side] for pair in vectors]) for side in (0, 1))
    names = np.array([file.name.partition("-")[0] for file in files])
    cosines, same = one @ other.T, names[:, None] == names[None, :]
    genuine, impostors = cosines[same], cosines[~same]
    length = "whole halves" if seconds is None else f"{seconds:g} s"
    print(f"\n{length}: {len(genuine):,} genuine pairs, {len(impostors):,} impostors, {spent:.2f} s each")
    for name, threshold in (("accepted", SAME), ("not refused", OTHER)):
        false, missed = int((impostors >= threshold).sum()), int((genuine < threshold).sum())
        print(
            f"  {name:12} from {threshold:.2f}: false {false:,} of {len(impostors):,} ({false / len(impostors):.3%}), "
            f"missed {missed:,} of {len(genuine):,} ({missed / len(genuine):.2%})"
        )
    places = np.unique(np.concatenate((genuine, impostors)))
    rates = [
        max(float((impostors >= at).mean()), float((genuine < at).mean()))
        for at in places[:: max(1, len(places) // 2000)]
    ]
    print(f"  equal error rate about {min(rates):.2%}")

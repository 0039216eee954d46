"""Detection: looks for our mark in a sound, and asks the registry whose it is.

What is written down names no output: whose outputs the asking tenant may hear of is decided by the API.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy.orm import Session

from vivavoce.release.registered import identities
from vivavoce.sound import open_sound
from vivavoce.watermark import Detection, Marker, Resolution

SCORE_DIGITS = 4


def detect(marker: Marker, sound: bytes) -> Detection:
    """Look for the mark, block by block.

    Raises:
        SoundError: The bytes are no sound that can be taken.
        MarkError: The detector failed.
    """
    stream = open_sound(sound)
    return marker.detect_blocks(stream.blocks, stream.sample_rate)


def resolve(session: Session, marker: Marker, found: Detection) -> Resolution | None:
    """Ask all registered identities whose mark was read; None where none was."""
    return None if found.reading is None else marker.code.resolve(found.reading, identities(session))


def result(marker: Marker, found: Detection, resolution: Resolution | None) -> dict[str, Any]:
    """Write a detection down for its job row: its own numbers get into the log, and those of the resolution do not."""
    return {
        "verdict": str(found.verdict),
        "reason": found.reason,
        "score": round(found.score, SCORE_DIGITS),
        "threshold": round(found.threshold, SCORE_DIGITS),
        "segments": [asdict(segment) for segment in found.segments],
        "speed": round(found.speed, SCORE_DIGITS),
        "pitch": round(found.pitch, SCORE_DIGITS),
        "model_id": marker.model_id,
        "seconds": round(found.seconds, 2),
        "resolution": None if resolution is None else asdict(resolution),
    }

"""Detection: looks for our mark in a sound. Whose outputs carry its message is asked of the registry by the API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vivavoce.sound import decode
from vivavoce.watermark import Detection, Marker

SCORE_DIGITS = 4


def detect(marker: Marker, sound: bytes) -> tuple[Detection, float]:
    """Look for the mark; returns what was found and the sound's length in seconds.

    Raises:
        SoundError: The bytes are no sound that can be taken.
        MarkError: The detector failed.
    """
    heard = decode(sound)
    return marker.detect(heard.samples, heard.sample_rate), heard.seconds


def result(marker: Marker, found: Detection, seconds: float) -> dict[str, Any]:
    """Write a detection down for its job row."""
    return {
        "found": found.found,
        "score": round(found.score, SCORE_DIGITS),
        "threshold": round(found.threshold, SCORE_DIGITS),
        "message": found.message,
        "confidence": round(found.message_confidence, SCORE_DIGITS),
        "segments": [asdict(segment) for segment in found.segments],
        "model_id": marker.model_id,
        "seconds": round(seconds, 2),
    }

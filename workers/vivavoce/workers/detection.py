"""Detection: looks for our mark in a sound, and for the outputs whose mark it may be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.ledger.tables import Output
from vivavoce.sound import decode
from vivavoce.watermark import Detection, Marker

MAX_CANDIDATES = 50
"""Outputs listed for one message, newest first: a message is a bucket that many outputs may share."""
SCORE_DIGITS = 4


def detect(marker: Marker, sound: bytes) -> tuple[Detection, float]:
    """Look for the mark; returns what was found and the sound's length in seconds.

    Raises:
        SoundError: The bytes are no sound that can be taken.
        MarkError: The detector failed.
    """
    heard = decode(sound)
    return marker.detect(heard.samples, heard.sample_rate), heard.seconds


def result(session: Session, marker: Marker, found: Detection, seconds: float) -> dict[str, Any]:
    """Write a detection down for its job row. Who may know whose outputs these are is for the reader to decide."""
    return {
        "found": found.found,
        "score": round(found.score, SCORE_DIGITS),
        "threshold": round(found.threshold, SCORE_DIGITS),
        "message": found.message,
        "confidence": round(found.message_confidence, SCORE_DIGITS),
        "segments": [asdict(segment) for segment in found.segments],
        "model_id": marker.model_id,
        "seconds": round(seconds, 2),
        "outputs": _candidates(session, found),
    }


def _candidates(session: Session, found: Detection) -> list[str]:
    if not found.found or found.message is None:
        return []
    statement = select(Output.id).where(Output.message == found.message).order_by(Output.created_at.desc())
    return list(session.scalars(statement.limit(MAX_CANDIDATES)))

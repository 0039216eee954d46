"""The mark in every sound: AudioSeal's networks, their training, and the `Marker` that puts it in and finds it."""

from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.marker import Marker
from vivavoce.watermark.reading import Detection, Segment

__all__ = ["Detection", "MarkError", "Marker", "Segment"]

"""The marks in every sound: the learned one (AudioSeal's networks), the keyed one, and the code that both carry."""

from vivavoce.watermark.code import Candidate, Code, Reading, Resolution
from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.marker import Marker
from vivavoce.watermark.reading import Detection, Segment, Verdict

__all__ = [
    "Candidate",
    "Code",
    "Detection",
    "MarkError",
    "Marker",
    "Reading",
    "Resolution",
    "Segment",
    "Verdict",
]

"""Long texts: said in parts that end with sentences, and joined so that nobody hears where.

The model has learned to say a few sentences at a time, and its context is bounded; a book is neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from vivavoce.sound import Samples

PART_CHARACTERS = 200
PAUSE_SECONDS = 0.15
"""Between two parts, beside the silence that each brings along."""
EDGE_SECONDS = 0.01
"""Over which the sound rises and falls at a join: a step would click."""
# The end of a sentence, of a clause, of a word: where a cut is heard least first. CJK writes no spaces between.
_CUTS = (r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])", r"(?<=[,;:–—])\s+|(?<=[，、；：])", r"\s+")


def parts(text: str) -> list[str]:
    """Cut a text into parts of at most `PART_CHARACTERS`, at ends of sentences where that is possible.

    Nothing is lost: joined by spaces (in CJK by nothing) they are the text, runs of white space being one space.
    """
    return list(_packed(" ".join(text.split()), _CUTS))


def _packed(text: str, cuts: tuple[str, ...]) -> Iterator[str]:
    """Put as many pieces together as fit; a piece that is too long by itself is cut where it is heard more."""
    if len(text) <= PART_CHARACTERS:
        if text:
            yield text
        return
    if not cuts:
        yield text[:PART_CHARACTERS]
        yield from _packed(text[PART_CHARACTERS:], cuts)
        return
    begin = end = 0
    for stop in [*(found.end() for found in re.finditer(cuts[0], text)), len(text)]:
        if len(text[begin:stop].strip()) > PART_CHARACTERS and end > begin:
            yield from _packed(text[begin:end].strip(), cuts[1:])
            begin = end
        end = stop
    yield from _packed(text[begin:].strip(), cuts[1:])


class Joiner:
    """Joins the sounds of parts, piece by piece, each beginning and ending in silence.

    Args:
        sample_rate: Of the samples, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        edge = round(EDGE_SECONDS * sample_rate)
        self._rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)).astype(np.float32)
        self._pause = np.zeros(round(PAUSE_SECONDS * sample_rate), dtype=np.float32)
        self._begun = False  # a part before this one has ended
        self._fed = 0  # samples of this part
        self._held = np.zeros(0, dtype=np.float32)

    def feed(self, samples: Samples) -> Samples:
        """Take float32[n] of the present part; returns what can be heard now. Its end is held back for a join."""
        samples = np.array(samples, dtype=np.float32)
        if self._begun and self._fed < len(self._rise):
            rising = self._rise[self._fed : self._fed + len(samples)]
            samples[: len(rising)] *= rising
        self._fed += len(samples)
        whole = np.concatenate((self._held, samples))
        cut = max(0, len(whole) - len(self._rise))
        self._held = whole[cut:]
        return whole[:cut]

    def next_part(self) -> Samples:
        """End the present part, behind which another one comes; returns its end and the pause."""
        fall = self._rise[::-1][len(self._rise) - len(self._held) :]
        ended = np.concatenate((self._held * fall, self._pause))
        self._begun, self._fed, self._held = True, 0, self._held[:0]
        return ended

    def finish(self) -> Samples:
        """End the last part, as it ends by itself."""
        held, self._held = self._held, self._held[:0]
        return held

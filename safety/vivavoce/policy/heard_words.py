"""What was heard against what was to be said: the one-time words, where they are, and how far two texts are apart."""

from __future__ import annotations

from collections.abc import Sequence

from vivavoce.consent.statements import Reading, spoken_form
from vivavoce.verification.transcription import Piece


def words_heard(said: str, shown: Reading) -> int:
    """Count the one-time words that were heard, in their order; `said` in spoken form."""
    return len(_places(said, shown))


def words_stretch(pieces: Sequence[Piece], shown: Reading, rate: int) -> slice:
    """Find the samples in which the one-time words were said; an empty slice where they were not all heard."""
    between = " " if _spaced(shown) else ""
    said, letters = "", list[Piece]()
    for piece in pieces:
        form = spoken_form(piece.text, shown.language)
        form = between + form if said and form else form
        said, letters = said + form, letters + [piece] * len(form)
    places = _places(said, shown)
    if len(places) < len(shown.words):
        return slice(0, 0)
    first, last = letters[places[0][0]], letters[places[-1][1] - 1]
    return slice(round(first.start * rate), round(last.end * rate))


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two rows of letters or words (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, wanted in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (letter != wanted))
    return row[-1]


def _places(said: str, shown: Reading) -> list[tuple[int, int]]:
    """Where in a spoken form the one-time words begin and end: from the first on, as many as come in their order."""
    places, place = list[tuple[int, int]](), 0
    edge = " " if _spaced(shown) else ""
    text = f"{edge}{said}{edge}"
    for word in shown.words:
        form = spoken_form(word, shown.language)
        found = text.find(f"{edge}{form}{edge}", place)
        if found < 0:
            break
        place = found + len(form)  # `said` begins one edge later than `text`
        places.append((found, place))
    return places


def _spaced(shown: Reading) -> bool:
    return " " in spoken_form(shown.text, shown.language)

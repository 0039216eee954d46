"""Filling a statement and its notice in for one speaker: the exact texts that are shown, said and compared."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from vivavoce.consent.names import plain_name
from vivavoce.consent.scope import Purpose
from vivavoce.consent.statements.catalogue import WORDS, Catalogue, catalogue, notice, statement

_SLOT = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True)
class Terms:
    """What one consent is about, as its statement says it."""

    speaker: str
    company: str
    purposes: frozenset[Purpose]
    until: date
    """Last day."""


@dataclass(frozen=True)
class Reading:
    """What one speaker is shown.

    Attributes:
        text: To be read aloud, with the one-time words; what a transcript is compared with.
        words: The one-time words in it, in their order.
        notice: To be shown before the recording begins.
    """

    language: str
    statement_version: str
    text: str
    words: tuple[str, ...]
    notice_version: str
    notice: str

    @property
    def sha256(self) -> str:
        """Digest of the very text (hexadecimal). It depends on the speaker's name: personal, so not for the log."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def draw_words(language: str) -> tuple[str, ...]:
    """Draw the one-time words of a challenge, no word twice: at least 32 bits that nobody can foresee."""
    return tuple(secrets.SystemRandom().sample(catalogue(language).words, WORDS))


def compose(language: str, terms: Terms, words: Sequence[str]) -> Reading:
    """Fill the newest statement and notice of a language in.

    Args:
        words: From `draw_words`; used once.

    Raises:
        ConsentInvalid: There is no statement in that language, or a name is empty, too long or not text.
    """
    texts, said, shown = catalogue(language), statement(language), notice(language)
    until = _fill(
        texts.date, day=str(terms.until.day), month=texts.months[terms.until.month - 1], year=terms.until.year
    )
    company = plain_name(terms.company)
    purposes = _listed(texts, [texts.purposes[purpose] for purpose in Purpose if purpose in terms.purposes])
    sentence = _fill(said.text, speaker=plain_name(terms.speaker), company=company, purposes=purposes, date=until)
    challenge = _fill(said.challenge, words=texts.comma.join(words))
    return Reading(
        language=language,
        statement_version=said.version,
        text=f"{sentence} {challenge}",
        words=tuple(words),
        notice_version=shown.version,
        notice=_fill(shown.text, company=company, date=until),
    )


def _fill(text: str, **values: str | int) -> str:
    # In one pass: a name that looks like a slot stays a name.
    return _SLOT.sub(lambda slot: str(values[slot[1]]), text)


def _listed(texts: Catalogue, parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{texts.comma.join(most)}{texts.last}{last}" if most else last

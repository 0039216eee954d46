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
from vivavoce.consent.statements.spoken import spoken_form

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


def draw_words(language: str, terms: Terms) -> tuple[str, ...]:
    """Draw the one-time words of a challenge: 32 bits that nobody can foresee.

    No word comes twice, and none that the sentence itself has: it would be heard without being said again.
    """
    said = spoken_form(_sentence(language, terms), language)
    edge = " " if " " in said else ""
    text = f"{edge}{said}{edge}"
    fit = [word for word in catalogue(language).words if f"{edge}{spoken_form(word, language)}{edge}" not in text]
    return tuple(secrets.SystemRandom().sample(fit, WORDS))


def compose(language: str, terms: Terms, words: Sequence[str]) -> Reading:
    """Fill the newest statement and notice of a language in.

    Args:
        words: From `draw_words`; used once.

    Raises:
        ConsentInvalid: There is no statement in that language, or a name is empty, too long or not text.
    """
    texts, said = catalogue(language), statement(language)
    challenge = _fill(said.challenge, words=texts.comma.join(words))
    return Reading(
        language=language,
        statement_version=said.version,
        text=f"{_sentence(language, terms)} {challenge}",
        words=tuple(words),
        notice_version=notice(language).version,
        notice=notice_for(language, terms.company, terms.until),
    )


def _sentence(language: str, terms: Terms) -> str:
    texts = catalogue(language)
    purposes = _listed(texts, [texts.purposes[purpose] for purpose in Purpose if purpose in terms.purposes])
    speaker, company = plain_name(terms.speaker), plain_name(terms.company)
    until = _dated(texts, terms.until)
    return _fill(statement(language).text, speaker=speaker, company=company, purposes=purposes, date=until)


def notice_for(language: str, company: str, until: date) -> str:
    """Fill the newest notice of a language in; raises as `compose`."""
    return _fill(notice(language).text, company=plain_name(company), date=_dated(catalogue(language), until))


def _dated(texts: Catalogue, day: date) -> str:
    return _fill(texts.date, day=str(day.day), month=texts.months[day.month - 1], year=day.year)


def _fill(text: str, **values: str | int) -> str:
    # In one pass: a name that looks like a slot stays a name.
    return _SLOT.sub(lambda slot: str(values[slot[1]]), text)


def _listed(texts: Catalogue, parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{texts.comma.join(most)}{texts.last}{last}" if most else last

"""The sentences that speakers read when they consent, the notices shown before, and one-time words: a file a language.

Statements and notices are append-only: a changed wording is a new version, since recorded consents point at the one
that was read. What `compose` gives is what is shown, word for word, and what a recording is compared with.
"""

from __future__ import annotations

from vivavoce.consent.statements.catalogue import (
    WORDS,
    Catalogue,
    Notice,
    Statement,
    languages,
    notice,
    parse,
    statement,
)
from vivavoce.consent.statements.composing import Reading, Terms, compose, draw_words, notice_for
from vivavoce.consent.statements.spoken import spoken_form

__all__ = [
    "WORDS",
    "Catalogue",
    "Notice",
    "Reading",
    "Statement",
    "Terms",
    "compose",
    "draw_words",
    "languages",
    "notice",
    "notice_for",
    "parse",
    "spoken_form",
    "statement",
]

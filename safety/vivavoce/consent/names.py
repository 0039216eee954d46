"""Words that people give to things: one line of plain text of a sane length."""

from __future__ import annotations

import unicodedata

from vivavoce.consent.errors import ConsentInvalid

MAX_NAME_CHARACTERS = 200


def plain_name(name: str) -> str:
    """Check the name of a person or a voice; raises `ConsentInvalid`: name_empty, and as `plain_text`."""
    name = plain_text("name", name, MAX_NAME_CHARACTERS)
    if not name:
        raise ConsentInvalid("name_empty", "a name is needed")
    return name


def plain_text(what: str, text: str, longest: int) -> str:
    """Normalise a text (NFC, no outer white space) and check it.

    Raises:
        ConsentInvalid: {what}_too_long or {what}_control_characters (lone surrogates too).
    """
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > longest:
        raise ConsentInvalid(f"{what}_too_long", f"a {what} has at most {longest} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ConsentInvalid(f"{what}_control_characters", f"a {what} has no control characters")
    return text

"""What may be asked to be said: text of a sane length, and nothing but text."""

from __future__ import annotations

import unicodedata

from vivavoce.policy.errors import PolicyRefused

MAX_CHARACTERS = 4096
"""Code points after normalisation; the limit that clients of OpenAI's speech route know."""

_ALLOWED_CONTROLS = "\n\t"
# Controls and lone surrogates (which JSON can spell and UTF-8 cannot).
_REFUSED = ("Cc", "Cs")
# Not to be heard: controls, format characters such as the zero-width space, and separators.
_INAUDIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def checked_text(text: str) -> str:
    """Normalise a text to be spoken (line ends, NFC, no outer white space) and check it.

    Raises:
        PolicyRefused: text_too_long, text_control_characters or text_empty.
    """
    # Before any work on it: NFC never makes a text shorter than a third (Unicode TR15, section 14).
    if len(text) > 3 * MAX_CHARACTERS:
        raise _too_long()
    if any(unicodedata.category(c) in _REFUSED and c not in _ALLOWED_CONTROLS for c in text.replace("\r\n", "\n")):
        raise PolicyRefused("text_control_characters", "the text holds control characters other than newline and tab")
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    if len(text) > MAX_CHARACTERS:
        raise _too_long()
    if all(unicodedata.category(character) in _INAUDIBLE for character in text):
        raise PolicyRefused("text_empty", "the text says nothing")
    return text


def _too_long() -> PolicyRefused:
    return PolicyRefused("text_too_long", f"a text has at most {MAX_CHARACTERS} characters")

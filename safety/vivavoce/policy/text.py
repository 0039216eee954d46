"""What may be asked to be said: text of a sane length, nothing but text, and nothing that the rules refuse."""

from __future__ import annotations

import unicodedata

from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text_judging import DEFAULT_PROFILE, Outcome, judge

MAX_CHARACTERS = 4096
"""Code points after normalisation; the limit that clients of OpenAI's speech route know."""

_ALLOWED_CONTROLS = "\n\t"
# Controls and lone surrogates (which JSON can spell and UTF-8 cannot).
_REFUSED = ("Cc", "Cs")
# Not to be heard: controls, format characters such as the zero-width space, and separators.
_INAUDIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


_CODES = {Outcome.BLOCK: "text_blocked", Outcome.REVIEW: "text_needs_review"}


def checked_text(text: str, profile: str = DEFAULT_PROFILE) -> str:
    """Normalise a text to be spoken (line ends, NFC, no outer white space) and check it.

    Args:
        profile: Compliance profile, which decides what becomes of a text that a rule is met by.

    Raises:
        PolicyRefused: text_too_long, text_control_characters or text_empty; text_blocked; text_needs_review, which is
            a refusal as long as there is no queue where somebody could review it.
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
    _require_allowed(text, profile)
    return text


def _require_allowed(text: str, profile: str) -> None:
    judgement = judge(text, profile)
    if judgement.outcome is not Outcome.ALLOW:
        why = " ".join(dict.fromkeys(hit.explanation for hit in judgement.hits))
        raise PolicyRefused(_CODES[judgement.outcome], f"the text may not be spoken: {why}")


def _too_long() -> PolicyRefused:
    return PolicyRefused("text_too_long", f"a text has at most {MAX_CHARACTERS} characters")

"""What may be asked to be said: text of a sane length, nothing but text, and nothing that the rules refuse."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from vivavoce.consent.profiles import STRICTEST
from vivavoce.policy.decisions import Decision
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text_judging import Outcome, judge

MAX_CHARACTERS = 4096
"""Code points after normalisation; the limit that clients of OpenAI's speech route know."""

_ALLOWED_CONTROLS = "\n\t"
# Controls and lone surrogates (which JSON can spell and UTF-8 cannot).
_REFUSED = ("Cc", "Cs")
# Not to be heard: controls, format characters such as the zero-width space, and separators.
_INAUDIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


_CODES = {Outcome.BLOCK: "text_blocked", Outcome.REVIEW: "text_needs_review"}
_SENTENCES = {
    Outcome.BLOCK: "the text may not be spoken",
    Outcome.REVIEW: "an admin must read the text first; send it again once it is approved",
}
_ANSWERS: dict[Decision | None, Outcome] = {None: Outcome.REVIEW, "approve": Outcome.ALLOW, "refuse": Outcome.BLOCK}


def checked_text(
    text: str, profile: str = STRICTEST, answered: Callable[[str], Decision | None] = lambda _: None
) -> str:
    """Normalise a text to be spoken (line ends, NFC, no outer white space) and check it.

    Args:
        profile: Compliance profile, which decides what becomes of a text that a rule is met by.
        answered: What an admin has said to the normalised text, if anything.

    Raises:
        PolicyRefused: text_too_long, text_control_characters or text_empty; text_blocked; text_needs_review, an admin
            must read it first.
    """
    text = plain_text(text)
    judgement = judge(text, profile)
    outcome = judgement.outcome
    if outcome is Outcome.REVIEW:
        outcome = _ANSWERS[answered(text)]
    if outcome is not Outcome.ALLOW:
        why = " ".join(dict.fromkeys(hit.explanation for hit in judgement.hits))
        raise PolicyRefused(_CODES[outcome], f"{_SENTENCES[outcome]}: {why}")
    return text


def plain_text(text: str) -> str:
    """Normalise a text as `checked_text` does, without asking the rules; raises `PolicyRefused`."""
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

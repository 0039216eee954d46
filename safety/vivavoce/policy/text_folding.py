"""Reading a text as it will be heard, through the disguises that texts wear: to compare it with rules, not to speak it.

Undone are: width and styled letters (NFKC), invisible characters, accents, letters of another alphabet that look alike
(Unicode TR39, the letters that matter here), digits and signs that stand for letters, letters set apart by spaces.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from vivavoce.consent.statements import spoken_form

# Not after a closing quote: who said it, and how, belongs to what was said.
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?:[。！？।؟]|\n\s*\n)+(?![”’」』»\"])")
_LONGEST = 400
"""A sentence of more characters is cut: without full stops, everything would stand beside everything."""
_FROM_CYRILLIC = str.maketrans("авсеһіјкмнорѕтухԁԛԝьгп", "abcehijkmhopstyxdqwbrn")
_FROM_GREEK = str.maketrans("αβεικνορτυχγ", "abeikvoptuxy")
_TO_CYRILLIC = str.maketrans("abcehkmoptyxr", "авсенкмортухг")
_BLANKS = dict.fromkeys((0x3164, 0x115F, 0x1160, 0xFFA0, 0x2800))
_SIGNS = str.maketrans("0345$@", "oeassa") | str.maketrans("78", "tb")
# A sign counts as a letter where it touches one: in `c0de`, `p@ss`, not in `6-digit` or `code!`.
_DISGUISED = re.compile(
    r"(?<=[a-z])[0134578$@!]+(?=[a-z])|(?<![0-9a-z])[0134578$@!]{1,2}(?=[a-z]{2})|(?<=[a-z])[0134578$@]+(?!\w)"
)
_APART = re.compile(r"(?<!\S)\S(?: \S){2,}(?!\S)")
_TOGETHER = 8
"""A run of that many single letters may hold several words."""


@dataclass(frozen=True)
class Sentence:
    """One sentence in one reading.

    Attributes:
        text: Words with one space between them.
        solid: The same without any space, where its letters were set apart or its script has no spaces; else empty.
    """

    text: str
    solid: str


def readings(text: str) -> list[list[Sentence]]:
    """Give the ways in which a text may be meant, as lists of sentences; the first is the text as it stands."""
    plain = unicodedata.normalize("NFKC", text).translate(_BLANKS).casefold()
    alphabets = [plain]
    if re.search(r"[а-яѐ-ԯ]", plain) and re.search("[a-z]", plain):
        alphabets += [plain.translate(_FROM_CYRILLIC), plain.translate(_TO_CYRILLIC)]
    elif re.search("[α-ω]", plain) and re.search("[a-z]", plain):
        alphabets.append(plain.translate(_FROM_GREEK))
    elif re.search(r"[ѕіјԁԛԝһ]", plain):
        alphabets.append(plain.translate(_FROM_CYRILLIC))
    whole = dict.fromkeys(alphabets)
    for alphabet in alphabets:
        bare = "".join(c for c in alphabet if unicodedata.category(c) != "Cf")
        for one in "il":
            whole[_undisguised(bare, one)] = None
    return [[_sentence(part) for part in _cut(reading)] for reading in whole]


def _undisguised(text: str, one: str) -> str:
    """Put letters for the signs that stand for them; 1 and ! stand for `one`, and two of them for ll."""
    ones = str.maketrans("1!", one + one)
    return _DISGUISED.sub(lambda run: run[0].replace("11", "ll").translate(_SIGNS).translate(ones), text)


def _cut(text: str) -> list[str]:
    parts = []
    for sentence in _SENTENCE.split(text):
        rest = sentence
        while len(rest) > _LONGEST:
            # At a space where there is one.
            end = rest.rfind(" ", _LONGEST // 2, _LONGEST) + 1 or _LONGEST
            parts.append(rest[:end])
            rest = rest[end:]
        parts.append(rest)
    return [part for part in parts if part.strip()]


def _sentence(text: str) -> Sentence:
    # Any language with spaces gives the same; scripts without are read from `solid`.
    words = spoken_form(text, "en")
    runs = [run.replace(" ", "") for run in _APART.findall(words)]
    joined = _APART.sub(lambda run: run[0].replace(" ", ""), words)
    unspaced = any(character >= "\u0590" and not "\u0900" <= character < "\u0980" for character in words)
    solid = words.replace(" ", "") if unspaced or any(len(run) >= _TOGETHER for run in runs) else ""
    return Sentence(joined, solid)

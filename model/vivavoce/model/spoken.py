"""English text as it is spoken: phones in IPA, for models that are taught sounds and not spelling.

Some hours of speech teach a model how phones sound, but not how English spells them. gruut (MIT) knows that: a lexicon,
and a trained guess for what is not in it. Its phones are written here with one letter for each diphthong and affricate,
as the teacher of the training data reads them (Kokoro-82M, Apache-2.0).

A spoken text is a row of tokens: a phone with its stress mark, with a space before it where a word begins, or a mark
of punctuation.
"""

from __future__ import annotations

import re
from functools import lru_cache

import gruut

from vivavoce.model.errors import ModelError

ONE_LETTER = {"t͡ʃ": "ʧ", "d͡ʒ": "ʤ", "eɪ": "A", "aɪ": "I", "oʊ": "O", "aʊ": "W", "ɔɪ": "Y"}
PHONES = tuple("AIOWYaæbdðeɛfhijklmnŋoɔɑɒpɹrsʃtθuʊʌvwzʒʤʧəɜɪɡx")
PAUSES = (",", ".", "!", "?", ";", ":")
STRESS = "ˈˌ"
TOKEN = re.compile(rf" ?[{STRESS}]?[{''.join(PHONES)}]|[{re.escape(''.join(PAUSES))}]")
# Words without stress in running speech; dictionaries give them one, as if each stood alone.
WEAK = frozenset(
    (  # noqa: SIM905 - words, as one reads them
        "a an and as at be been but by can could for from had has have he her him his i if in is it its me my of on "
        "or our shall she should so some than that the their them then there they to us was we were will with would "
        "you your do does am are"
    ).split()
)
LONGEST = 400  # letters that gruut is given at once; its time grows faster than the text


def spoken(text: str) -> list[str]:
    """Tokens of a text.

    Raises:
        ModelError: nothing in the text can be spoken.
    """
    tokens: list[str] = []
    for part in _parts(text):
        for word, phones in _words(part):
            tokens += _token_row(word, phones)
    if not any(token not in PAUSES for token in tokens):
        raise ModelError("nothing in the text can be spoken")
    return tokens


def _parts(text: str) -> list[str]:
    parts, rest = [], " ".join(text.split())
    while len(rest) > LONGEST:
        cut = max(rest.rfind(mark, 0, LONGEST) for mark in (". ", "! ", "? ", ", ", " "))
        cut = LONGEST if cut < 1 else cut + 1
        parts.append(rest[:cut])
        rest = rest[cut:]
    return [*parts, rest]


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = (word for sentence in gruut.sentences(text, lang="en-us") for word in sentence)
    return tuple((word.text, tuple(word.phonemes)) for word in found if word.phonemes)


def _token_row(word: str, phones: tuple[str, ...]) -> list[str]:
    if phones in (("|",), ("‖",)):
        return [word if word in PAUSES else ","]
    row: list[str] = []
    for phone in phones:
        stress = phone[0] if phone[0] in STRESS else ""
        sound = ONE_LETTER.get(phone[len(stress) :], phone[len(stress) :])
        if word.lower() in WEAK:
            stress = ""
        if sound == "ɚ":  # two phones, as the teacher reads them
            row += [stress + ("ɜ" if stress else "ə"), "ɹ"]
        else:
            row += [stress + letter for letter in sound if letter in PHONES]
    return [" " + row[0], *row[1:]] if row else []

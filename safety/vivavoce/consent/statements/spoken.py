"""A text as it is heard: two texts that sound alike have the same spoken form, however they are written.

Kept apart: digits and number words ("2027" and "two thousand"), Japanese kana and kanji, simplified and traditional
Chinese. A comparison that must bear these needs a distance, not equality.
"""

from __future__ import annotations

import unicodedata

# Written without spaces, or (Korean) with spaces that are not heard and that transcripts set as they like.
_UNSPACED = ("zh", "ja", "ko")
_APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´"))
_COMBINING = range(0x0300, 0x0370)
_ARABIC_MARKS = {*range(0x064B, 0x0653), 0x0670, 0x0640}
_SAME = str.maketrans(
    # Alif with and without its seat, final ya and ta marbuta: written as each writer likes.
    {"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه", "ؤ": "و", "ئ": "ي"}
    # Devanagari: candrabindu is written as anusvara in most texts, and the nukta is left out.
    | {"\u0901": "\u0902", "\u093c": ""}
)
_KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}


def spoken_form(text: str, language: str) -> str:
    """Reduce a text to what is heard of it.

    Width, case, punctuation, spacing, apostrophes, accents, Arabic vowel signs, the Devanagari nukta, katakana against
    hiragana and the script of digits make no difference.

    Args:
        language: BCP 47 tag; Chinese, Japanese and Korean lose all spaces.

    Returns:
        Words with one space between them; none for a text that says nothing.
    """
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    # NFKD takes a composed letter's accent off; Devanagari's composed nukta letters come apart too.
    apart = unicodedata.normalize("NFKD", text).translate(_SAME)
    kept = (c for c in apart if ord(c) not in _COMBINING and ord(c) not in _ARABIC_MARKS)
    text = unicodedata.normalize("NFC", "".join(map(_heard, kept))).translate(_SAME).translate(_KATAKANA)
    return ("" if language.split("-")[0] in _UNSPACED else " ").join(text.split())


def _heard(character: str) -> str:
    """Give a letter, mark or digit; a space for what only divides; nothing for what cannot be seen."""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    # The long-vowel mark of kana is a letter (Lm); symbols that are read aloud are not expected in a statement.
    return character if category[0] in "LMN" else " "

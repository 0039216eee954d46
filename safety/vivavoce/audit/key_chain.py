"""Which keys a log was signed with, as the log itself says: a rotation names both keys in an entry.

Whoever holds one key of the chain, an old or a new one, comes to the others: an entry under a head that is signed by a
key that is trusted is true, and so are the keys that it names. All heads must be of one tree, which is asked elsewhere.
"""

from __future__ import annotations

import json

from vivavoce.audit.errors import NoteInvalid
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.audit.tags import Tag

FROM, TO = "from_public", "to_public"
"""Facts of a rotation's entry: the log's keys, as verifiers."""


class KeyChain:
    """The keys that follow from one.

    Args:
        trusted: The key that is known otherwise.
    """

    def __init__(self, trusted: Verifier) -> None:
        self._trusted = trusted
        self._named: list[tuple[int, tuple[Verifier, Verifier]]] = []
        self._heads: list[tuple[str, int]] = []

    def entry(self, index: int, data: bytes) -> None:
        """Take note of an entry, if it names keys of this log."""
        if Tag.LEDGER_ROTATE.value.encode() not in data:
            return
        leaf = json.loads(data)
        if leaf.get("tag") != Tag.LEDGER_ROTATE or not {FROM, TO} <= set(leaf["facts"]):
            return
        pair = Verifier.parse(str(leaf["facts"][FROM])), Verifier.parse(str(leaf["facts"][TO]))
        if all(key.name == self._trusted.name for key in pair):
            self._named.append((index, pair))

    def head(self, note: str, size: int) -> None:
        """Take note of a head, whoever signed it."""
        self._heads.append((note, size))

    def known(self) -> tuple[Verifier, ...]:
        """Give all keys that the trusted one leads to, it first."""
        keys, grown = [self._trusted], True
        while grown:
            grown = False
            for index, pair in self._named:
                new = [key for key in pair if key not in keys]
                if new and any(size > index and _opens(note, keys) for note, size in self._heads):
                    keys, grown = [*keys, *new], True
        return tuple(keys)

    def unsigned(self) -> tuple[int, str] | None:
        """Give size and fault of the first head that no key of the chain has signed; None where there is none."""
        keys = self.known()
        for note, size in self._heads:
            try:
                Checkpoint.open(note, *keys)
            except NoteInvalid as error:
                return size, str(error)
        return None


def _opens(note: str, keys: list[Verifier]) -> bool:
    try:
        Checkpoint.open(note, *keys)
    except NoteInvalid:
        return False
    return True

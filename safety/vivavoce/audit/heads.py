"""Signed heads as write-once objects, beside the database: a database put back to an old state is found out by them.

`log-heads/<size>` is the signed note of that size; `log-cosignatures/<size>/<key id>` is a witness's signature line.
Nothing is ever replaced. Only a store that itself keeps objects (a bucket with object lock) holds against whoever
holds its credentials.
"""

from __future__ import annotations

from collections.abc import Sequence

from vivavoce.audit.cosignatures import CosignerKey
from vivavoce.audit.errors import HeadConflict, NoteInvalid
from vivavoce.audit.notes import ID_BYTES, Checkpoint, Verifier, read_signature_line, split
from vivavoce.ledger.errors import ObjectMissing
from vivavoce.ledger.objects import ObjectStore

_HEADS = "log-heads"
_COSIGNATURES = "log-cosignatures"


class Heads:
    """The kept heads of one log."""

    def __init__(self, objects: ObjectStore, *verifiers: Verifier) -> None:
        self._objects = objects
        self._verifiers = verifiers

    def keep(self, note: str) -> None:
        """Keep a signed head.

        Raises:
            HeadConflict: Another head of this size is kept already.
            NoteInvalid: Not signed by the log.
        """
        head = Checkpoint.open(note, *self._verifiers)
        key = f"{_HEADS}/{head.size:020d}"
        if not self._objects.create(key, note.encode()) and self._read(key) != head:
            raise HeadConflict(f"another head of {head.size} leaves was signed before: the log was forked")

    def last(self) -> Checkpoint | None:
        """Read the largest head that is kept.

        Raises:
            HeadConflict: What is kept there is not a head of this log of that size.
        """
        kept = self._objects.list(_HEADS)
        return self._read(kept[-1]) if kept else None

    def add_cosignatures(self, note: str, lines: str, keys: Sequence[CosignerKey]) -> list[CosignerKey]:
        """Keep what a witness answered to a note; returns the keys that had signed. Lines by others are dropped.

        Raises:
            NoteInvalid: A line in one of these keys' names does not verify.
        """
        head = Checkpoint.open(note, *self._verifiers)
        text, _ = split(note)
        found = []
        for line in lines.splitlines(keepends=True):
            name, blob = read_signature_line(line.removesuffix("\n"))
            for key in keys:
                if (key.name, key.key_id) == (name, blob[:ID_BYTES]) and key.cosigned(f"{text}\n{line}") is not None:
                    self._objects.create(f"{_COSIGNATURES}/{head.size:020d}/{key.key_id.hex()}", line.encode())
                    # A line that is sent twice is one signature.
                    if key not in found:
                        found.append(key)
        return found

    def cosigned(self, note: str) -> str:
        """Add to a note of the log all cosignatures that are kept for it."""
        size = Checkpoint.open(note, *self._verifiers).size
        kept = self._objects.list(f"{_COSIGNATURES}/{size:020d}")
        return note + "".join(self._objects.get(key).decode() for key in kept)

    def last_cosigned(self) -> int | None:
        """Give the size of the largest head that a witness has cosigned; None if none has."""
        kept = self._objects.list(_COSIGNATURES)
        return int(kept[-1].split("/")[1]) if kept else None

    def _read(self, key: str) -> Checkpoint:
        try:
            head = Checkpoint.open(self._objects.get(key).decode(), *self._verifiers)
        except (NoteInvalid, UnicodeDecodeError, ObjectMissing) as error:
            raise HeadConflict(f"the kept head {key} is not one of this log: {error}") from error
        if not key.endswith(f"/{head.size:020d}"):
            raise HeadConflict(f"the kept head {key} is of {head.size} leaves")
        return head

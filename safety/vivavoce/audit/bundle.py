"""A log in one file, which anybody can check with nothing but the public key.

JSON lines, in the order of the tree, so that both sides need only O(log n) memory:
- first `{"bundle": 1, "key": "<C2SP verifier key>", "size": n}`;
- each leaf with its recorded hash and the inner nodes that it completes: `{"leaf": i, "data": "...", "hash": "<hex>",
  "nodes": ["<hex>", ...]}`; the recorded hashes let a verifier say *where* a tree went wrong, a root alone cannot;
- after leaf s - 1, the checkpoint of size s where one was signed: `{"checkpoint": "<signed note>"}`. The last line is
  the checkpoint of size n.

What a bundle cannot show: what was appended after its last checkpoint, or that other people were shown the same log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit import merkle
from vivavoce.audit.entries import place_and_time
from vivavoce.audit.errors import BundleBroken, NoteInvalid
from vivavoce.audit.key_chain import KeyChain
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier, read_checkpoint, split
from vivavoce.ledger.tables import AuditCheckpoint, AuditLeaf, AuditNode

VERSION = 1
_ROWS_AT_ONCE = 1000

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Verified:
    """What a sound bundle proves: these leaves, in this order, under heads that this key signed.

    Attributes:
        size: Number of leaves.
        root: Their root, as signed in the last checkpoint.
        checkpoints: Number of signed heads, all consistent.
        key: Verifier key that they were checked with.
        last_time: Time that the last leaf claims (RFC 3339); None without leaves.
    """

    size: int
    root: bytes
    checkpoints: int
    key: str
    last_time: str | None


def write_bundle(session: Session, log: Log, size: int, path: Path, progress: Progress = silent) -> None:
    """Write the first `size` leaves and their checkpoints as they are stored.

    The rows are written unchecked: finding what is wrong with them, or not signed, is the verifier's work.

    Args:
        progress: Called now and then with the number of leaves written, and `size`.
    """
    checkpoints = _checkpoints(session, size)
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("wb") as file:
            for line in _lines(session, log, size, checkpoints, progress):
                file.write(_dump(line))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def verify_bundle(path: Path, public_key: str | None = None, progress: Progress = silent) -> Verified:
    """Check a bundle from its first byte to its last, without any database.

    Args:
        public_key: Verifier key got from somewhere else. Without one the bundle's own is used, which shows only that
            the bundle agrees with itself: whoever forged all of it would have put their own key there.
        progress: Called now and then with the number of leaves checked, and the number announced.

    Raises:
        BundleBroken: Names the first wrong place.
    """
    with path.open("rb") as file:
        lines = _parse(file)
        _, header = next(lines, (1, {}))
        if header.get("bundle") != VERSION:
            raise BundleBroken("line 1", "not an audit bundle of a version that this program knows")
        size = header.get("size")
        if set(header) != {"bundle", "key", "size"} or not _is_count(size):
            raise BundleBroken("line 1", "a malformed header")
        try:
            own = Verifier.parse(str(header.get("key")))
            verifier = own if public_key is None else Verifier.parse(public_key)
        except NoteInvalid as error:
            raise BundleBroken("public key", str(error)) from error
        return _Check(verifier, own, size, progress).run(lines)


class _Check:
    """One pass over a bundle's lines, with the place where it is."""

    def __init__(self, verifier: Verifier, own: Verifier, size: int, progress: Progress) -> None:
        self._verifier = verifier
        self._own = own
        self._chain = KeyChain(verifier)
        self._size = size
        self._progress = progress
        self._tree = merkle.Frontier()
        self._proven = 0
        self._checkpoints = 0
        self._suspect: BundleBroken | None = None
        self._last_time: str | None = None
        self._head: Checkpoint | None = None

    def run(self, lines: Iterator[tuple[int, dict[str, object]]]) -> Verified:
        try:
            for number, line in lines:
                self._line(number, line)
            head = self._end()
            self._signed()
        except BundleBroken as later:
            # What was suspected before stands further ahead in the file.
            raise self._suspect or later from None
        if self._suspect:
            raise self._suspect
        self._progress(self._size, self._size)
        return Verified(self._size, head.root, self._checkpoints, str(self._own), self._last_time)

    def _line(self, number: int, line: dict[str, object]) -> None:
        if set(line) == {"leaf", "data", "hash", "nodes"}:
            self._leaf(line)
            if self._tree.size % _ROWS_AT_ONCE == 0:
                self._progress(self._tree.size, self._size)
        elif set(line) == {"checkpoint"}:
            self._checkpoint(str(line["checkpoint"]))
        else:
            raise BundleBroken(f"line {number}", "neither a leaf nor a checkpoint")

    def _signed(self) -> None:
        """Ask who signed the heads, now that all entries which may name keys are read."""
        if self._own not in self._chain.known():
            raise BundleBroken("public key", f"the bundle is signed by {self._own}, not by {self._verifier}")
        unsigned = self._chain.unsigned()
        if unsigned is not None:
            size, reason = unsigned
            raise BundleBroken(f"checkpoint of size {size}", reason)

    def _end(self) -> Checkpoint:
        if self._tree.size != self._size:
            reason = f"missing: the bundle ends here, {self._size} leaves were announced"
            raise BundleBroken(f"leaf {self._tree.size}", reason)
        if self._head is None or self._head.size != self._size:
            raise BundleBroken(f"checkpoint of size {self._size}", "missing: nobody signed for the last leaves")
        return self._head

    def _leaf(self, line: dict[str, object]) -> None:
        index, place = self._tree.size, f"leaf {self._tree.size}"
        found = line["leaf"]
        if not _is_count(found) or found != index:
            raise BundleBroken(place, f"missing or moved: leaf {found} stands in its place")
        if index >= self._size:
            raise BundleBroken(place, f"too many: {self._size} leaves were announced")
        try:
            data = str(line["data"]).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise BundleBroken(place, "its data stands for no bytes") from error
        hash_ = merkle.leaf_hash(data)
        if hash_.hex() != line["hash"]:
            self._suspect = self._suspect or BundleBroken(place, "altered: its data does not have its recorded hash")
        self._content(place, index, data)
        made = [node.hex() for node in self._tree.push(hash_)]
        if made != line["nodes"]:
            self._suspect = self._suspect or BundleBroken(*_above(index, made, line["nodes"]))

    def _content(self, place: str, index: int, data: bytes) -> None:
        try:
            says_index, self._last_time = place_and_time(data)
        except ValueError:
            self._suspect = self._suspect or BundleBroken(place, "its data is not an entry")
            return
        with suppress(ValueError, KeyError, TypeError, AttributeError, NoteInvalid):  # what names no key names none
            self._chain.entry(index, data)
        if says_index != index:
            reason = f"it says that it is leaf {says_index}: leaves were exchanged, removed or put in"
            self._suspect = self._suspect or BundleBroken(place, reason)

    def _checkpoint(self, note: str) -> None:
        size = self._tree.size
        place = f"checkpoint of size {size}"
        try:
            head = read_checkpoint(split(note)[0])
            if head.size != size or head.root != self._tree.root():
                Checkpoint.open(note, self._own, *self._chain.known())  # or else the head is what was changed
        except NoteInvalid as error:
            raise BundleBroken(place, str(error)) from error
        if head.size > size:
            raise BundleBroken(f"leaf {size}", f"missing: a checkpoint of size {head.size} stands in its place")
        if head.size < size:
            raise BundleBroken(place, f"a checkpoint of size {head.size} stands in its place")
        if head.root != self._tree.root():
            # The hashes recorded with the leaves may have said where; a forger who redid them all leaves a range.
            where = f"leaves {self._proven} to {size - 1}" if size else place
            raise BundleBroken(where, f"root mismatch: these are not what was signed at size {size}")
        self._chain.head(note, size)
        self._proven, self._head = size, head
        self._checkpoints += 1


def _above(index: int, made: list[str], recorded: object) -> tuple[str, str]:
    """Say what the recorded inner nodes above a leaf leave open: which leaves, or the node itself."""
    if not isinstance(recorded, list) or len(recorded) != len(made):
        return f"leaf {index}", f"{len(made)} inner nodes belong here"
    level = next(number for number, pair in enumerate(zip(made, recorded, strict=True), 1) if pair[0] != pair[1])
    first = index - (1 << level) + 1
    return f"leaves {first} to {index}", f"altered: they do not have the hash recorded at level {level}"


def _parse(file: Iterable[bytes]) -> Iterator[tuple[int, dict[str, object]]]:
    for number, raw in enumerate(file, 1):
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BundleBroken(f"line {number}", "not JSON") from error
        # One way to write it, so that no other program reads something else in it (such as a name given twice).
        if not isinstance(line, dict) or _dump(line) != raw:
            raise BundleBroken(f"line {number}", "not an object as a bundle writes it")
        yield number, line


def _dump(line: dict[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _lines(
    session: Session, log: Log, size: int, checkpoints: dict[int, str], progress: Progress
) -> Iterator[dict[str, object]]:
    yield {"bundle": VERSION, "key": str(log.verifier), "size": size}
    if 0 in checkpoints:
        yield {"checkpoint": checkpoints[0]}
    for start in range(0, size, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, size)
        nodes = _completed(session, start, stop)
        leaves = session.execute(
            select(AuditLeaf.index, AuditLeaf.data, AuditLeaf.hash)
            .where(AuditLeaf.index >= start, AuditLeaf.index < stop)
            .order_by(AuditLeaf.index)
        )
        for index, data, hash_ in leaves:
            # Whatever bytes stand in the row come through unchanged, text or not.
            text = data.decode("utf-8", "surrogateescape")
            yield {"leaf": index, "data": text, "hash": hash_.hex(), "nodes": nodes.get(index, [])}
            if index + 1 in checkpoints:
                yield {"checkpoint": checkpoints[index + 1]}
        progress(stop, size)


def _completed(session: Session, start: int, stop: int) -> dict[int, list[str]]:
    """Read the inner nodes that leaves start..stop-1 complete, by leaf, upwards."""
    found: dict[int, list[str]] = {}
    for level in range(1, stop.bit_length()):
        rows = session.execute(
            select(AuditNode.index, AuditNode.hash)
            .where(AuditNode.level == level, AuditNode.index >= start >> level, AuditNode.index < stop >> level)
            .order_by(AuditNode.index)
        )
        for index, hash_ in rows:
            found.setdefault(((index + 1) << level) - 1, []).append(hash_.hex())
    return found


def _checkpoints(session: Session, size: int) -> dict[int, str]:
    rows = session.execute(select(AuditCheckpoint.size, AuditCheckpoint.note).where(AuditCheckpoint.size <= size))
    return {row.size: row.note for row in rows}

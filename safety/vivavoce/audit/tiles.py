"""The log as a folder of static files (C2SP tlog-tiles), to be served by any web server or copied anywhere.

`checkpoint`; `tile/<level>/<number>`: 256 hashes of 32 bytes; `tile/entries/<number>`: 256 leaves, each after its
length (16 bits). What does not fill a tile yet is in `<number>.p/<width>`. One file more than the standard has,
`log.key`, holds the log's key for whoever has it from nowhere better. Partial tiles of earlier heads are deleted once
a head needs the full tile, which the standard allows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit import merkle
from vivavoce.audit.bundle import Progress, Verified, silent
from vivavoce.audit.entries import place_and_time
from vivavoce.audit.errors import BundleBroken, HeadConflict, LogBroken, NoteInvalid
from vivavoce.audit.files import replace_file
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.ledger.tables import AuditLeaf, AuditNode

WIDTH = 256
_HEIGHT = 8
_LENGTH_BYTES = 2


def write_tiles(session: Session, log: Log, note: str, folder: Path, progress: Progress = silent) -> None:
    """Bring a folder up to a signed head; full tiles that are there are not written again. The head comes last.

    Raises:
        HeadConflict: The folder is of another log, of a longer one, or of a history that is not this one's.
        LogBroken: Rows are missing.
    """
    head = Checkpoint.open(note, *log.verifiers)
    before = _published(session, log, head, folder)
    replace_file(folder / "log.key", f"{log.verifier}\n".encode())
    level = 0
    while count := head.size >> (_HEIGHT * level):
        first = (before >> (_HEIGHT * level)) // WIDTH
        for number in range(first, -(-count // WIDTH)):
            start, stop = number * WIDTH, min(count, (number + 1) * WIDTH)
            replace_file(
                tile_path(folder, str(level), number, stop - start), b"".join(_hashes(session, level, start, stop))
            )
            if level == 0:
                replace_file(tile_path(folder, "entries", number, stop - start), _entries(session, start, stop))
                progress(stop, count)
        level += 1
    replace_file(folder / "checkpoint", note.encode())
    _drop_partial(folder, before, head.size)


def verify_tiles(folder: Path, public_key: str | None = None, progress: Progress = silent) -> Verified:
    """Check a folder of tiles: every entry against its tile, every tile against the ones below, and all to the head.

    Args:
        public_key: Verifier key got from somewhere else; without one, the folder's own.

    Raises:
        BundleBroken: Names the first wrong place.
    """
    try:
        verifier = Verifier.parse(public_key or _read(folder / "log.key", folder).decode(errors="replace"))
        head = Checkpoint.open(_read(folder / "checkpoint", folder).decode(errors="replace"), verifier)
    except NoteInvalid as error:
        raise BundleBroken("checkpoint", str(error)) from error
    last_time = None
    tree, above = merkle.Frontier(), []
    for number in range(-(-head.size // WIDTH)):
        start, stop = number * WIDTH, min(head.size, (number + 1) * WIDTH)
        leaves, last_time = _check_entries(folder, number, start, stop)
        for leaf in leaves:
            tree.push(leaf)
        if stop - start == WIDTH:
            above.append(_root(leaves))
        progress(stop, head.size)
    _check_above(folder, above)
    if tree.root() != head.root:
        raise BundleBroken(f"leaves 0 to {head.size - 1}", f"root mismatch: not what was signed at size {head.size}")
    return Verified(head.size, head.root, 1, str(verifier), last_time)


def tile_path(folder: Path, kind: str, number: int, width: int) -> Path:
    """Name a tile: `x001/x234/067`, and `.p/<width>` for a partial one.

    Args:
        kind: The level, or `entries`.
    """
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    path = folder.joinpath("tile", kind, *groups)
    return path if width == WIDTH else path.with_name(f"{path.name}.p") / str(width)


def _published(session: Session, log: Log, head: Checkpoint, folder: Path) -> int:
    """Read how far a folder is, after checking that what it says is a beginning of this log."""
    if not (folder / "checkpoint").exists():
        return 0
    try:
        old = Checkpoint.open((folder / "checkpoint").read_text(), *log.verifiers)
    except (NoteInvalid, UnicodeDecodeError) as error:
        raise HeadConflict(f"{folder} is not of this log: {error}") from error
    if old.size > head.size:
        raise HeadConflict(f"{folder} has {old.size} leaves, this head only {head.size}: the log was rolled back")
    if log.root(session, old.size) != old.root:
        raise HeadConflict(f"{folder} shows other leaves than this log: one of them was forged")
    return old.size


def _hashes(session: Session, level: int, start: int, stop: int) -> list[bytes]:
    if level == 0:
        rows = select(AuditLeaf.index, AuditLeaf.hash).where(AuditLeaf.index >= start, AuditLeaf.index < stop)
        return _whole(session.execute(rows.order_by(AuditLeaf.index)), start, stop)
    nodes = select(AuditNode.index, AuditNode.hash).where(AuditNode.level == _HEIGHT * level)
    between = nodes.where(AuditNode.index >= start, AuditNode.index < stop)
    return _whole(session.execute(between.order_by(AuditNode.index)), start, stop)


def _entries(session: Session, start: int, stop: int) -> bytes:
    rows = select(AuditLeaf.index, AuditLeaf.data).where(AuditLeaf.index >= start, AuditLeaf.index < stop)
    found = _whole(session.execute(rows.order_by(AuditLeaf.index)), start, stop)
    return b"".join(len(data).to_bytes(_LENGTH_BYTES, "big") + data for data in found)


def _drop_partial(folder: Path, before: int, size: int) -> None:
    """Delete the partial tiles that became full; only now, because the head before pointed at them."""
    for level in range(-(-size.bit_length() // _HEIGHT)):
        first, full = ((count >> (_HEIGHT * level)) // WIDTH for count in (before, size))
        for kind in (str(level), "entries") if level == 0 else (str(level),):
            for number in range(first, full):
                whole = tile_path(folder, kind, number, WIDTH)
                shutil.rmtree(whole.with_name(f"{whole.name}.p"), ignore_errors=True)


def _whole(rows: object, start: int, stop: int) -> list[bytes]:
    found = list(rows)  # type: ignore[call-overload]
    for expected, (index, _) in zip(range(start, stop), found, strict=False):
        if index != expected:
            raise LogBroken(f"row {expected} is gone")
    if len(found) != stop - start:
        raise LogBroken(f"row {start + len(found)} is gone")
    return [value for _, value in found]


def _read(path: Path, folder: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleBroken(str(path.relative_to(folder)), "missing, or cannot be read") from error


def _check_entries(folder: Path, number: int, start: int, stop: int) -> tuple[list[bytes], str]:
    path = tile_path(folder, "entries", number, stop - start)
    tile = _read_tile(folder, 0, number, stop - start)
    hashes, time = [], ""
    for index, data in zip(range(start, stop + 1), _split(_read(path, folder)), strict=False):
        place = f"leaf {index}"
        if index == stop or data is None:
            raise BundleBroken(place if index < stop else str(path.relative_to(folder)), "cut short, or too long")
        hash_ = merkle.leaf_hash(data)
        if hash_ != tile[index - start]:
            raise BundleBroken(place, "altered: the entry does not have the hash that its tile says")
        try:
            says, time = place_and_time(data)
        except ValueError as error:
            raise BundleBroken(place, "its data is not an entry") from error
        if says != index:
            raise BundleBroken(place, f"it says that it is leaf {says}: leaves were exchanged, removed or put in")
        hashes.append(hash_)
    if len(hashes) < stop - start:
        raise BundleBroken(f"leaf {start + len(hashes)}", "missing")
    return hashes, time


def _split(bundle: bytes) -> Iterator[bytes | None]:
    """Take entries from a bundle; None at a place where it ends too early."""
    at = 0
    while at < len(bundle):
        stop = at + _LENGTH_BYTES + int.from_bytes(bundle[at : at + _LENGTH_BYTES], "big")
        yield bundle[at + _LENGTH_BYTES : stop] if at + _LENGTH_BYTES <= len(bundle) and stop <= len(bundle) else None
        at = stop


def _read_tile(folder: Path, level: int, number: int, width: int) -> list[bytes]:
    path = tile_path(folder, str(level), number, width)
    data = _read(path, folder)
    if len(data) != width * merkle.HASH_BYTES:
        raise BundleBroken(str(path.relative_to(folder)), f"{len(data)} bytes instead of {width * merkle.HASH_BYTES}")
    return [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]


def _check_above(folder: Path, hashes: list[bytes]) -> None:
    """Check the tiles of level 1 and up against the hashes that the tiles below them have."""
    level = 1
    while hashes:
        above = []
        for number in range(-(-len(hashes) // WIDTH)):
            expected = hashes[number * WIDTH : (number + 1) * WIDTH]
            found = _read_tile(folder, level, number, len(expected))
            for at, (one, other) in enumerate(zip(expected, found, strict=True), number * WIDTH):
                if one != other:
                    span = WIDTH**level
                    reason = f"tile {number} of level {level} has another hash for them"
                    raise BundleBroken(f"leaves {at * span} to {(at + 1) * span - 1}", reason)
            if len(expected) == WIDTH:
                above.append(_root(expected))
        hashes, level = above, level + 1


def _root(hashes: list[bytes]) -> bytes:
    tree = merkle.Frontier()
    for hash_ in hashes:
        tree.push(hash_)
    return tree.root()

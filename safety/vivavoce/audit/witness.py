"""A witness (C2SP tlog-witness): cosigns a log's head only if it continues the last one that it cosigned.

It keeps its last head of each log in a folder of its own, on another machine than the log. A log that was rolled back
or forked gets no cosignature there any more, whoever holds its key.

Not done of the standard: bastions. Where the standard leaves it open, cosignatures are made with both kinds of key.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivavoce.audit import merkle
from vivavoce.audit.cosignatures import SEED_BYTES, Cosigner
from vivavoce.audit.errors import NoteInvalid, WitnessBroken
from vivavoce.audit.files import replace_file
from vivavoce.audit.notes import DECIMAL, Checkpoint, Verifier, decode, read_checkpoint, split
from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.secret_files import create_folder, filled, read_secret

MAX_REQUEST_BYTES = 64 * 1024
SIZE_TYPE = "text/x.tlog.size"

_OLD = re.compile(f"old {DECIMAL}")


@dataclass(frozen=True)
class Answer:
    """What a witness answers, in HTTP's numbers: 200 with signature lines, 409 with the size it stands at, others."""

    status: int
    body: str

    @property
    def media_type(self) -> str:
        """Media type of the body."""
        return SIZE_TYPE if self.status == 409 else "text/plain; charset=utf-8"


def make_witness(folder: Path, name: str) -> None:
    """Make a witness: its secret seed, and its empty memory.

    Raises:
        WitnessBroken: There is something in that folder already, or it cannot be made.
    """
    if filled(folder):
        raise WitnessBroken(f"{folder} is not empty: a witness that forgot what it saw is worth nothing")
    seed = base64.b64encode(os.urandom(SEED_BYTES)) + b"\n"
    Cosigner(name, bytes(SEED_BYTES))  # a bad name is said before anything is made
    empty = json.dumps({"witness": name, "logs": {}}).encode()
    try:
        create_folder(folder, {"cosigner.key": seed, "state.json": empty, "lock": b""})
    except KeyRingError as error:
        raise WitnessBroken(str(error)) from error


class Witness:
    """A witness in its folder. Several processes may use one: each answer is decided under a lock.

    Args:
        now: Gives the time in POSIX seconds.

    Raises:
        WitnessBroken: No witness there, or its memory is damaged. It never begins again by itself.
    """

    def __init__(self, folder: Path, now: Callable[[], int]) -> None:
        self._folder = folder
        self._now = now
        try:
            seed = base64.b64decode(read_secret(folder / "cosigner.key").strip(), validate=True)
            self.cosigner = Cosigner(self._state()["witness"], seed)
        except (KeyRingError, ValueError, NoteInvalid) as error:
            raise WitnessBroken(f"no witness in {folder}: {error}") from error

    def trust(self, log: Verifier, note: str | None = None) -> None:
        """Begin to witness a log, or go on with its next key.

        Args:
            note: Head that both the key known here and the next one have signed: the old key's word for the new one.

        Raises:
            WitnessBroken: Its origin has another key already, and no such note was shown.
        """
        with self._locked() as state:
            known = state["logs"].setdefault(log.name, {"key": str(log), "size": 0, "root": merkle.EMPTY_ROOT.hex()})
            if known["key"] != str(log):
                if note is None:
                    raise WitnessBroken(f"{log.name} is known by another key")
                try:
                    for key in (Verifier.parse(known["key"]), log):
                        Checkpoint.open(note, key)
                except NoteInvalid as error:
                    raise WitnessBroken(f"the note does not lead from the known key to this one: {error}") from error
                known["key"] = str(log)
            self._keep(state)

    def head(self, origin: str) -> Checkpoint | None:
        """Give the last head of a log that it cosigned; size 0 before the first, None for a stranger."""
        known = self._state()["logs"].get(origin)
        return known and Checkpoint(origin, known["size"], bytes.fromhex(known["root"]))

    def add_checkpoint(self, request: str) -> Answer:
        """Answer an `add-checkpoint` request: cosign, or say why not. What it cosigns is on the disk before."""
        try:
            old, path, note = read_request(request)
            claimed = read_checkpoint(split(note)[0])
        except NoteInvalid as error:
            return Answer(400, f"{error}\n")
        with self._locked() as state:
            known = state["logs"].get(claimed.origin)
            if known is None:
                return Answer(404, "this log is not known here\n")
            try:
                head = Checkpoint.open(note, Verifier.parse(known["key"]))
            except NoteInvalid as error:
                return Answer(403, f"{error}\n")
            if old > head.size:
                return Answer(400, "the old size is larger than the checkpoint's\n")
            size, root = known["size"], bytes.fromhex(known["root"])
            # Of the same size, a fork shows in the root: a conflict too, not a wrong proof.
            if old != size or (head.size == size and head.root != root):
                return Answer(409, f"{size}\n")
            if not merkle.verify_consistency(size, head.size, root, head.root, path):
                return Answer(422, "the proof does not lead from the last head to this one\n")
            known["size"], known["root"] = head.size, head.root.hex()
            self._keep(state)
            return Answer(200, self.cosigner.cosign(note, self._now()))

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        with (self._folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self._state()

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads((self._folder / "state.json").read_bytes())
            for known in state["logs"].values():
                if type(known["size"]) is not int or len(bytes.fromhex(known["root"])) != merkle.HASH_BYTES:
                    raise WitnessBroken("the witness's memory is damaged")
            return dict(state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WitnessBroken(f"the witness's memory cannot be read ({type(error).__name__})") from error

    def _keep(self, state: dict[str, Any]) -> None:
        replace_file(self._folder / "state.json", json.dumps(state, indent=1).encode())


def write_request(old: int, path: list[bytes], note: str) -> str:
    """Write an `add-checkpoint` request: from the tree of `old` leaves to the note's checkpoint."""
    lines = [f"old {old}", *(base64.b64encode(part).decode() for part in path), "", note]
    return "\n".join(lines)


def read_request(request: str) -> tuple[int, list[bytes], str]:
    """Read a request: old size, consistency proof, note; raises `NoteInvalid`."""
    first, separator, note = request.partition("\n\n")
    old, *path = first.split("\n")
    found = _OLD.fullmatch(old)
    if not separator or not found or len(path) > merkle.MAX_PATH or len(request) > MAX_REQUEST_BYTES:
        raise NoteInvalid("not an add-checkpoint request")
    try:
        parts = [decode(line) for line in path]
    except ValueError as error:
        raise NoteInvalid("a line of the proof is not base64") from error
    return int(found[1]), parts, note

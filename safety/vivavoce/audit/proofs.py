"""One entry's proof in one text file (C2SP tlog-proof, `.tlog-proof`), checked offline with the log's public key.

The file's extra data is the leaf itself, so that nothing else is needed to check it. The standard warns that extra
data is not authenticated; here it is, because its hash is what the inclusion proof proves.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vivavoce.audit import merkle
from vivavoce.audit.cosignatures import CosignerKey
from vivavoce.audit.errors import NoteInvalid, ProofInvalid
from vivavoce.audit.notes import DECIMAL, Checkpoint, Verifier, decode

HEADER = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True)
class Proven:
    """What a proof proves: this entry stands at this place under a head that the log signed.

    Attributes:
        entry: The leaf, as JSON says it.
        cosigned: Names of the cosigners asked for that had seen this head, with the times (POSIX seconds).
    """

    index: int
    entry: dict[str, Any]
    head: Checkpoint
    cosigned: dict[str, int]


def write_proof(data: bytes, index: int, path: Sequence[bytes], note: str) -> str:
    """Write the proof of a leaf.

    Args:
        data: The leaf's data.
        path: Inclusion proof in the tree of the note's checkpoint.
        note: Signed checkpoint, with cosignatures or without.
    """
    lines = [HEADER, f"extra {_encode(data)}", f"index {index}", *map(_encode, path), "", note]
    return "\n".join(lines)


def verify_proof(text: str, log: Verifier, cosigners: Sequence[CosignerKey] = ()) -> Proven:
    """Check a proof, offline.

    Args:
        cosigners: Keys that must all have cosigned the head; a head without any of their lines is refused, so that
            nobody strips them.

    Raises:
        ProofInvalid: Says what is wrong.
    """
    head_lines, separator, note = text.partition("\n\n")
    lines = head_lines.split("\n")
    if not separator or len(lines) < 3 or lines[0] != HEADER or not lines[1].startswith("extra "):
        raise ProofInvalid("not a proof of an entry (c2sp.org/tlog-proof@v1 with the entry as extra data)")
    if not re.fullmatch(f"index {DECIMAL}", lines[2]) or len(lines) > 3 + merkle.MAX_PATH:
        raise ProofInvalid("the proof's index or path is malformed")
    index = int(lines[2].removeprefix("index "))
    try:
        data, path = decode(lines[1].removeprefix("extra ")), [decode(line) for line in lines[3:]]
        head = Checkpoint.open(note, log)
        seen = {str(key): (key.name, key.cosigned(note)) for key in cosigners}
    except NoteInvalid as error:
        raise ProofInvalid(str(error)) from error
    except ValueError as error:
        raise ProofInvalid("a line of the proof is not base64") from error
    for name, time in seen.values():
        if time is None:
            raise ProofInvalid(f"not cosigned by {name}")
    if not merkle.verify_inclusion(merkle.leaf_hash(data), index, head.size, path, head.root):
        raise ProofInvalid(f"the entry is not leaf {index} of the tree that was signed")
    return Proven(index, _entry(data, index), head, {name: time for name, time in seen.values() if time is not None})


def _entry(data: bytes, index: int) -> dict[str, Any]:
    try:
        entry = json.loads(data)
        if entry["index"] == index:
            return dict(entry)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProofInvalid("the leaf is not an entry") from error
    raise ProofInvalid(f"the entry says that it is leaf {entry['index']}, and it stands at {index}")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()

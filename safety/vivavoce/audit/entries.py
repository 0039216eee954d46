"""What one leaf of the log says, and how it is written: canonical JSON (RFC 8785), the same bytes everywhere.

A leaf never holds personal data. What is personal goes sealed into a payload beside it; the leaf holds a salted
commitment, so that an erased person leaves a proof behind that something was said, and no way to guess what.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import rfc8785

from vivavoce.audit.errors import EntryInvalid
from vivavoce.audit.tags import Tag

VERSION = 1
MAX_LEAF_BYTES = 65535
"""Largest entry that fits the 16-bit lengths of C2SP tlog-tiles entry bundles."""
SALT_BYTES = 32

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True)
class Entry:
    """Something that happened, or is about to.

    Attributes:
        tenant_id: Whose doing it is; None for the operator and for strangers.
        actor: Who did it: `key_...`, `subject`, `subject:<link>`, `operator`, `operator:<account>`, `worker:<name>`,
            `anonymous`.
        refs: Identifiers of the things concerned, by kind: `{"job": "job_...", "consent": "cons_..."}`.
        facts: What was decided and measured: codes, digests, scores. Nothing personal, no text from outside.
    """

    tag: Tag
    tenant_id: str | None
    actor: str
    refs: Mapping[str, str | int] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)


def encode(entry: Entry, index: int, time: datetime, commitment: bytes | None) -> bytes:
    """Write the leaf's data.

    Raises:
        EntryInvalid: Not canonical JSON (a lone surrogate, an integer beyond 2**53, not a number), or too large.
    """
    leaf = {
        "v": VERSION,
        "index": index,
        "time": timestamp(time),
        "tag": str(entry.tag),
        "tenant": entry.tenant_id,
        "actor": entry.actor,
        "refs": dict(entry.refs),
        "facts": dict(entry.facts),
        "personal": commitment.hex() if commitment is not None else None,
    }
    try:
        data = rfc8785.dumps(leaf)  # type: ignore[arg-type]  # facts may be any Mapping; dumps says so itself if not
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise EntryInvalid(f"an entry that JSON cannot say: {error}") from error
    if len(data) > MAX_LEAF_BYTES:
        raise EntryInvalid(f"an entry of {len(data)} bytes; at most {MAX_LEAF_BYTES} fit a leaf")
    return data


def timestamp(time: datetime) -> str:
    """Write a moment as RFC 3339 in UTC, always with microseconds: as text it then sorts like time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def commit(salt: bytes, personal: bytes) -> bytes:
    """Commit to a personal part: HMAC-SHA256 under a salt that is sealed together with it."""
    return hmac.new(salt, personal, hashlib.sha256).digest()


def commitment(data: bytes) -> bytes | None:
    """Read a leaf's commitment to its personal part, if it has one."""
    found = json.loads(data)["personal"]
    return None if found is None else bytes.fromhex(found)


def place_and_time(data: bytes) -> tuple[object, str]:
    """Read where a leaf says that it stands, and its time; raises `ValueError` for what is not an entry."""
    try:
        said = json.loads(data)
        return said["index"], str(said["time"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("not an entry") from error

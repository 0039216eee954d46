"""Changing the installation's keys, file by file, without anything that they made becoming unreadable.

Three steps, so that processes of several hosts can go through them one after the other: a key is *prepared* (known to
all, used by none), *taken into use* (the one before stays known), and the old ones are *retired*.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.keys import KEY_BYTES, KeyFile, public_pair
from vivavoce.ledger.secret_files import replace_secret

ROTATED = ("grant_signer", "kek", "log_signer", "pepper")
LOG_SIGNER = "log_signer"


def prepare(folder: Path, name: str) -> KeyFile:
    """Make the key that comes next, unless there is one; returns what the file says then."""
    return _change(folder, name, lambda file: file if file.next else replace(file, next=os.urandom(KEY_BYTES)))


def take_into_use(folder: Path, name: str) -> KeyFile:
    """Use the key that was prepared from now on; raises `KeyRingError` where there is none."""

    def turned(file: KeyFile) -> KeyFile:
        if file.next is None:
            raise KeyRingError(f"no key is prepared for {name}")
        return KeyFile(file.next, None, (file.current, *file.old), file.public)

    return _change(folder, name, turned)


def retire(folder: Path, name: str) -> KeyFile:
    """Forget the old keys for ever; of a log signer, its public halves stay known."""

    def without(file: KeyFile) -> KeyFile:
        gone = tuple(public_pair(key) for key in file.old) if name == LOG_SIGNER else ()
        return replace(file, old=(), public=(*gone, *file.public))

    return _change(folder, name, without)


def key_id(name: str, key: bytes) -> str:
    """Name a secret key, for the log and for people; tells nothing about it (SHA-256 over 256 random bits)."""
    return hashlib.sha256(b"vivavoce key id 1\0" + name.encode() + b"\0" + key).hexdigest()[:16]


def _change(folder: Path, name: str, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
    if name not in ROTATED:
        raise KeyRingError(f"{name} cannot be rotated; these can: {', '.join(ROTATED)}")
    path = folder / f"{name}.key"
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise KeyRingError(f"no keys in {folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        changed = change(KeyFile.read(path))
        replace_secret(path, str(changed).encode())
    finally:
        os.close(descriptor)
    return changed

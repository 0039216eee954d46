"""The installation's secret keys, one file each, in one folder that is made whole or not at all.

A file's first line is the key that is used. Lines below it are keys that are known but not used: `next` (it will be
used from a rotation on), `old` (what it made is still opened and verified) and `public` (the public halves of a log
signer that is gone: what it signed is still verified). `rotation` writes them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.secret_files import create_folder, filled, read_secret

KEY_BYTES = 32
NEXT, OLD, PUBLIC = "next", "old", "public"
_FILES = ("kek", "pepper", "log_signer", "grant_signer", "mark_key")


@dataclass(frozen=True)
class KeyFile:
    """What one key's file says."""

    current: bytes = field(repr=False)
    next: bytes | None = field(default=None, repr=False)
    old: tuple[bytes, ...] = field(default=(), repr=False)
    """Newest first."""
    public: tuple[bytes, ...] = ()
    """Public halves of log signers that are gone, newest first: 32 bytes of the log's key, 32 of the documents'."""

    @property
    def known(self) -> tuple[bytes, ...]:
        """All secret keys, the one that is used first."""
        return (self.current, *self.old, *(() if self.next is None else (self.next,)))

    def __str__(self) -> str:
        lines = [("", self.current)]
        lines += [] if self.next is None else [(NEXT, self.next)]
        lines += [(OLD, key) for key in self.old] + [(PUBLIC, key) for key in self.public]
        return "".join(f"{word} {base64.b64encode(key).decode()}".strip() + "\n" for word, key in lines)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key's file; raises `KeyRingError`."""
        found: dict[str, list[bytes]] = {"": [], NEXT: [], OLD: [], PUBLIC: []}
        for number, line in enumerate(read_secret(path).splitlines() or [b""]):
            word, _, encoded = line.rpartition(b" ")
            kind = word.decode(errors="replace")
            try:
                key = base64.b64decode(encoded.strip(), validate=True)
            except binascii.Error as error:
                raise KeyRingError(f"key file {path} is damaged") from error
            size = 2 * KEY_BYTES if kind == PUBLIC else KEY_BYTES
            if len(key) != size:
                raise KeyRingError(f"key file {path} holds {len(key)} bytes instead of {size}")
            if kind not in found or (kind == "") != (number == 0):
                raise KeyRingError(f"key file {path} is damaged in line {number + 1}")
            found[kind].append(key)
        if len(found[NEXT]) > 1:
            raise KeyRingError(f"key file {path} has two keys that come next")
        return cls(found[""][0], next(iter(found[NEXT]), None), tuple(found[OLD]), tuple(found[PUBLIC]))


@dataclass(frozen=True)
class KeyRing:
    """The keys, as read from their files. Printing it shows none of them."""

    files: Mapping[str, KeyFile] = field(repr=False)

    @property
    def kek(self) -> bytes:
        """Key-encryption key (AES-256): wraps the subjects' keys."""
        return self.files["kek"].current

    @property
    def keks(self) -> tuple[bytes, ...]:
        """Keys that may have wrapped a subject's key, the one that is used first."""
        return self.files["kek"].known

    @property
    def pepper(self) -> bytes:
        """HMAC-SHA256 key under which API keys are stored."""
        return self.files["pepper"].current

    def digests(self, secret: bytes) -> list[str]:
        """Give what a secret is stored and found as: its HMAC under each pepper, under the one that is used first."""
        return [hmac.new(pepper, secret, hashlib.sha256).hexdigest() for pepper in self.files["pepper"].known]

    @property
    def log_signer(self) -> Ed25519PrivateKey:
        """Signs the log's checkpoints."""
        return self.log_signers[0]

    @property
    def log_signers(self) -> tuple[Ed25519PrivateKey, ...]:
        """Signers that sign each checkpoint beside one another: after a rotation the old one too, until it is gone."""
        file = self.files["log_signer"]
        return tuple(Ed25519PrivateKey.from_private_bytes(key) for key in (file.current, *file.old))

    @property
    def grant_signer(self) -> Ed25519PrivateKey:
        """Signs grants."""
        return Ed25519PrivateKey.from_private_bytes(self.files["grant_signer"].current)

    @property
    def mark_key(self) -> bytes:
        """The operator's mark secret: the marks' layout and code come from it, and the outputs' mark identities."""
        return self.files["mark_key"].current

    @property
    def log_verifier(self) -> Ed25519PublicKey:
        """Public half of `log_signer`; may be given to anybody."""
        return self.log_signer.public_key()

    @property
    def log_verifiers(self) -> tuple[tuple[Ed25519PublicKey, Ed25519PublicKey], ...]:
        """Public keys of the log and of its documents, pair by pair, those that are used first."""
        file = self.files["log_signer"]
        pairs = [public_pair(key) for key in file.known] + list(file.public)
        from_bytes = Ed25519PublicKey.from_public_bytes
        return tuple((from_bytes(pair[:KEY_BYTES]), from_bytes(pair[KEY_BYTES:])) for pair in pairs)

    @property
    def grant_verifier(self) -> Ed25519PublicKey:
        """Public half of `grant_signer`."""
        return self.grant_signer.public_key()

    @property
    def grant_verifiers(self) -> tuple[Ed25519PublicKey, ...]:
        """Public halves of all signers whose grants count, of the one that is used first."""
        known = self.files["grant_signer"].known
        return tuple(Ed25519PrivateKey.from_private_bytes(key).public_key() for key in known)

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """Read the key files; with `create`, make them first when the folder is absent or empty.

        Several processes may do so at once: one makes the keys and all read the same. Keys are never made beside
        existing ones, since a half-restored backup would then turn into unreadable data.

        Raises:
            KeyRingError: A file is missing, malformed, or readable by every user of the machine.
        """
        if create and not filled(folder):
            create_folder(folder, {f"{name}.key": str(KeyFile(os.urandom(KEY_BYTES))).encode() for name in _FILES})
        return cls({name: KeyFile.read(folder / f"{name}.key") for name in _FILES})


def document_signer(log_signer: Ed25519PrivateKey) -> Ed25519PrivateKey:
    """Derive the documents' signing key from the log's (RFC 5869)."""
    derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"vivavoce consent receipt 1")
    return Ed25519PrivateKey.from_private_bytes(derive.derive(log_signer.private_bytes_raw()))


def public_pair(secret: bytes) -> bytes:
    """Give the public halves of a log signer: 32 bytes of the log's key, 32 of the documents'."""
    signer = Ed25519PrivateKey.from_private_bytes(secret)
    return signer.public_key().public_bytes_raw() + document_signer(signer).public_key().public_bytes_raw()

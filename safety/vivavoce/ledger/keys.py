"""The installation's secret keys, one file each, in one folder that is made whole or not at all."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.secret_files import create_folder, filled, read_secret

_KEY_BYTES = 32
_FILES = ("kek", "pepper", "log_signer", "grant_signer", "mark_key")


@dataclass(frozen=True)
class KeyRing:
    """The keys, as read from their files. Printing it shows none of them."""

    kek: bytes = field(repr=False)
    """Key-encryption key (AES-256): wraps the subjects' keys."""
    pepper: bytes = field(repr=False)
    """HMAC-SHA256 key under which API keys are stored."""
    log_signer: Ed25519PrivateKey = field(repr=False)
    """Signs the log's checkpoints."""
    grant_signer: Ed25519PrivateKey = field(repr=False)
    """Signs grants."""
    mark_key: bytes = field(repr=False)
    """The operator's mark secret: the marks' layout and code come from it, and the outputs' mark identities."""

    @property
    def log_verifier(self) -> Ed25519PublicKey:
        """Public half of `log_signer`; may be given to anybody."""
        return self.log_signer.public_key()

    @property
    def grant_verifier(self) -> Ed25519PublicKey:
        """Public half of `grant_signer`."""
        return self.grant_signer.public_key()

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """Read the key files; with `create`, make them first when the folder is absent or empty.

        Several processes may do so at once: one makes the keys and all read the same. Keys are never made beside
        existing ones, since a half-restored backup would then turn into unreadable data.

        Raises:
            KeyRingError: A file is missing, malformed, or readable by every user of the machine.
        """
        if create and not filled(folder):
            create_folder(folder, {f"{name}.key": base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n" for name in _FILES})
        keys = {name: _read(folder / f"{name}.key") for name in _FILES}
        return cls(
            kek=keys["kek"],
            pepper=keys["pepper"],
            log_signer=Ed25519PrivateKey.from_private_bytes(keys["log_signer"]),
            grant_signer=Ed25519PrivateKey.from_private_bytes(keys["grant_signer"]),
            mark_key=keys["mark_key"],
        )


def _read(path: Path) -> bytes:
    try:
        secret = base64.b64decode(read_secret(path).strip(), validate=True)
    except binascii.Error as error:
        raise KeyRingError(f"key file {path} is damaged") from error
    if len(secret) != _KEY_BYTES:
        raise KeyRingError(f"key file {path} holds {len(secret)} bytes instead of {_KEY_BYTES}")
    return secret

"""The installation's secret keys, one file each, in one folder that is made whole or not at all."""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vivavoce.ledger.errors import KeyRingError

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
        if create and not _filled(folder):
            _create(folder)
        keys = {name: _read(folder / f"{name}.key") for name in _FILES}
        return cls(
            kek=keys["kek"],
            pepper=keys["pepper"],
            log_signer=Ed25519PrivateKey.from_private_bytes(keys["log_signer"]),
            grant_signer=Ed25519PrivateKey.from_private_bytes(keys["grant_signer"]),
            mark_key=keys["mark_key"],
        )


def _create(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkdtemp gives 0700. The rename below takes the place of an absent or empty folder, and of nothing else.
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in _FILES:
            _write(draft / f"{name}.key", os.urandom(_KEY_BYTES))
        _sync_folder(draft)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        # Another process was faster: its keys are complete, and are read next.
        if not _filled(folder):
            raise KeyRingError(f"could not make keys in {folder}: {error.strerror}") from error
    else:
        _sync_folder(folder.parent)


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _write(path: Path, secret: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secret) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        # Group access is left to the operator: mounted secrets are often read through a group.
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise KeyRingError(f"{path} is open to every user of this machine; chmod 600")
        secret = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise KeyRingError(f"key file {path} cannot be read: {error.strerror}") from error
    except binascii.Error as error:
        raise KeyRingError(f"key file {path} is damaged") from error
    if len(secret) != _KEY_BYTES:
        raise KeyRingError(f"key file {path} holds {len(secret)} bytes instead of {_KEY_BYTES}")
    return secret

"""Folders of secret files: made whole or not at all, by whichever process comes first, and closed to other users."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vivavoce.ledger.errors import KeyRingError


def filled(folder: Path) -> bool:
    """Whether a folder is there and holds anything."""
    return folder.is_dir() and any(folder.iterdir())


def create_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder (mode 0700) with these files (0600), unless another process is faster: then its files stand.

    Raises:
        KeyRingError: The folder could not be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkdtemp gives 0700. The rename below takes the place of an absent or empty folder, and of nothing else.
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise KeyRingError(f"could not make keys in {folder}: {error.strerror}") from error
    try:
        for name, content in files.items():
            _write(draft / name, content)
        _sync_folder(draft)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        # Another process was faster: its keys are complete, and are read next.
        if not filled(folder):
            raise KeyRingError(f"could not make keys in {folder}: {error.strerror}") from error
    else:
        _sync_folder(folder.parent)


def read_secret(path: Path) -> bytes:
    """Read a secret file.

    Raises:
        KeyRingError: It cannot be read, or every user of the machine could.
    """
    try:
        # Group access is left to the operator: mounted secrets are often read through a group.
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise KeyRingError(f"{path} is open to every user of this machine; chmod 600")
        return path.read_bytes()
    except OSError as error:
        raise KeyRingError(f"key file {path} cannot be read: {error.strerror}") from error


def replace_secret(path: Path, content: bytes) -> None:
    """Put other content into a secret file, at once or not at all; its mode stays (mounted secrets have a group's).

    Raises:
        KeyRingError: It could not be written; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)  # left by one that was killed
        _write(draft, content)
        draft.chmod(stat.S_IMODE(path.stat().st_mode))
        draft.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyRingError(f"could not write {path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

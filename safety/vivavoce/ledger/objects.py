"""Sealed recordings, requests and outputs, as objects in a folder or an S3-compatible bucket."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from obstore.store import ObjectStore as Store

from vivavoce.ledger.errors import ObjectMissing, ObjectStoreUnavailable

# What every kind of store keeps as it is.
_KEY = re.compile(r"[A-Za-z0-9._/-]{1,200}")
# A request waits for its object; the store's own patience is three minutes.
_RETRY_TIMEOUT = timedelta(seconds=20)


class ObjectStore:
    """Objects by key, such as `outputs/out_01jd...`. Safe to share between threads.

    Args:
        url: `file:///folder` (made when absent), `s3://bucket/prefix` (credentials and endpoint from the usual `AWS_*`
            variables), or `memory://` (gone with the process; for tests).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = _folder(url)
        self._store = _open(url, self._folder)

    def put(self, key: str, data: bytes) -> None:
        """Store an object, whole or not at all; an object of that key is replaced."""
        try:
            self._store.put(_checked(key), data)
            if self._folder:
                _sync(self._folder, key)
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not store {key}") from error

    def create(self, key: str, data: bytes) -> bool:
        """Store an object only where none is; returns whether it was stored. What is there is never replaced."""
        try:
            self._store.put(_checked(key), data, mode="create")
            if self._folder:
                _sync(self._folder, key)
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not store {key}") from error
        return True

    def get(self, key: str) -> bytes:
        """Read an object.

        Raises:
            ObjectMissing: There is none under this key.
        """
        try:
            return bytes(self._store.get(_checked(key)).bytes())
        except FileNotFoundError as error:
            raise ObjectMissing(key) from error
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not read {key}") from error

    def delete(self, key: str) -> None:
        """Delete an object; it is no error when it is already gone, so that a repeated clean-up succeeds."""
        try:
            self._store.delete(_checked(key))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not delete {key}") from error

    def list(self, prefix: str = "") -> list[str]:
        """List the keys under a folder such as `outputs`, in order."""
        try:
            return sorted(meta["path"] for batch in self._store.list(prefix or None) for meta in batch)
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not list {prefix!r}") from error


def _folder(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open(url: str, folder: Path | None) -> Store:
    if folder:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(folder)
    if url.startswith("memory:"):
        return MemoryStore()
    if url.startswith("s3:"):
        return from_url(url, retry_config={"max_retries": 3, "retry_timeout": _RETRY_TIMEOUT})
    raise ValueError(f"not an object store that the ledger knows: {url}")


def _sync(folder: Path, key: str) -> None:
    """Wait until a file and its name are on the disk: rows that speak of it are, once they are committed."""
    path = folder / key
    for part in (path, *(parent for parent in path.parents if parent.is_relative_to(folder))):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key) or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not an object key: {key!r}")
    return key

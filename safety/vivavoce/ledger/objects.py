"""Sealed recordings, requests and outputs, as objects in a folder or an S3-compatible bucket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from obstore.store import ObjectStore as Store

from vivavoce.ledger.errors import ObjectMissing, ObjectStoreUnavailable


class ObjectStore:
    """Objects by key, such as `outputs/out_01jd...`. Safe to share between threads.

    Args:
        url: `file:///folder` (made when absent), `s3://bucket/prefix` (credentials and endpoint from the usual `AWS_*`
            variables), or `memory://` (gone with the process; for tests).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = _open(url)

    def put(self, key: str, data: bytes) -> None:
        """Store an object, whole or not at all; an object of that key is replaced."""
        try:
            self._store.put(_checked(key), data)
        except (BaseError, OSError) as error:
            raise ObjectStoreUnavailable(f"could not store {key}") from error

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


def _open(url: str) -> Store:
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(folder)
    if parts.scheme == "s3":
        return from_url(url)
    raise ValueError(f"not an object store that the ledger knows: {url}")


def _checked(key: str) -> str:
    if not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not an object key: {key!r}")
    return key

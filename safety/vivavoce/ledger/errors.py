"""What can go wrong in the ledger."""

from __future__ import annotations


class LedgerError(Exception):
    """Base of this area's errors."""


class SchemaError(LedgerError):
    """The database's schema is not the one that this code was written for."""


class ObjectMissing(LedgerError):
    """No object is stored under this key."""


class ObjectStoreUnavailable(LedgerError):
    """The object store could not be read or written."""


class KeyRingError(LedgerError):
    """The key files are missing, incomplete, malformed or readable by others."""


class Erased(LedgerError):
    """The subject's key is destroyed: what was sealed under it can never be read again."""


class SealBroken(LedgerError):
    """A sealed value was altered, moved to another place, or sealed under another key."""

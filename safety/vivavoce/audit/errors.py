"""What can go wrong in the log."""

from __future__ import annotations


class AuditError(Exception):
    """Base of this area's errors."""


class LogUnavailable(AuditError):
    """The entry could not be written. What it announces must not be done."""


class LogBroken(LogUnavailable):
    """The stored tree contradicts a head that was already signed. Nothing more is signed or written."""


class EntryInvalid(AuditError):
    """The entry cannot be written in canonical JSON, or is too large for a leaf."""


class NoSuchProof(AuditError, ValueError):
    """There is no such leaf, or the log has not yet grown to that size."""


class NoteInvalid(AuditError):
    """A signed note, checkpoint or verifier key is malformed, or its signature is wrong."""


class BundleBroken(AuditError):
    """An exported bundle does not verify.

    Attributes:
        place: The first wrong place, such as `leaf 17` or `checkpoint of size 20`.
        reason: What is wrong there.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class DocumentBroken(AuditError):
    """A signed document does not hold.

    Attributes:
        place: What is wrong.
        reason: How.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class ProofInvalid(AuditError):
    """A tlog-proof is malformed or does not prove what it should."""


class HeadConflict(AuditError):
    """Two signed heads of this log cannot both be true, or a kept head is of more leaves than there are."""


class WitnessBroken(AuditError):
    """A witness's own folder is missing, damaged or made for something else. It answers nothing."""

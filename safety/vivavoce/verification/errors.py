"""What can go wrong with verification."""

from __future__ import annotations


class VerifierMissing(Exception):
    """A model that verification needs is not installed here. Nothing passes without it."""

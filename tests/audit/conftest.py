"""The log of these tests."""

from __future__ import annotations

import pytest

from vivavoce.audit.log import Log
from vivavoce.ledger.keys import KeyRing


@pytest.fixture
def log(keyring: KeyRing) -> Log:
    """A log of its own name."""
    return Log(keyring, "test.example/log")

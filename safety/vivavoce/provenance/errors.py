"""What can go wrong with provenance."""

from __future__ import annotations

from typing import Literal

ProvenanceCode = Literal[
    "certificate_missing",
    "certificate_unreadable",
    "certificate_expired",
    "certificate_not_yet_valid",
    "certificate_unfit",
    "key_unfit",
    "key_mismatch",
    "signing_failed",
]


class ProvenanceError(Exception):
    """A file cannot be signed. Nothing falls back to an unsigned one. `code` is for machines, `detail` for people."""

    def __init__(self, code: ProvenanceCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: ProvenanceCode = code
        self.detail = detail

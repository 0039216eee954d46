"""What can go wrong at the door."""

from __future__ import annotations


class ReleaseRefused(Exception):
    """Nothing leaves.

    Codes: mark_not_found, mark_identity_taken (another output has the same), nothing_to_release (no samples, or not all
    of them finite), unknown_output, and all codes of `ConsentRefused`.

    Attributes:
        code: A stable word for programs.
        detail: One sentence for people; no personal data.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

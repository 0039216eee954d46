"""What admins answer to a review."""

from __future__ import annotations

from typing import Literal

from vivavoce.policy.errors import PolicyRefused

Decision = Literal["approve", "refuse"]

MAX_REASON_CHARACTERS = 500


def plain_reason(reason: str) -> str:
    """Fold a decision's reason into one line; raises `PolicyRefused` (reason_empty)."""
    reason = " ".join(reason.split())[:MAX_REASON_CHARACTERS]
    if not reason:
        raise PolicyRefused("reason_empty", "a reason is needed")
    return reason

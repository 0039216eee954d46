"""How many requests somebody has left in the present minute."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter

from vivavoce.api.problems import Problem


class Counted:
    """The requests of one key, link or address in the present minute.

    Args:
        limiter: Where they are counted.
        limit: How many there may be.
        identifiers: Whose they are.
    """

    def __init__(self, limiter: FixedWindowRateLimiter, limit: RateLimitItemPerMinute, *identifiers: str) -> None:
        self._limiter = limiter
        self._limit = limit
        self._identifiers = identifiers

    def hit(self) -> None:
        """Count one more; raises `Problem` (429) where there were too many."""
        if not self._limiter.hit(self._limit, *self._identifiers):
            raise self.too_many()

    def too_many(self) -> Problem:
        """Say that there were too many, and how long to wait."""
        seconds = max(1, self._left()[1])
        wait = {"Retry-After": str(seconds)}
        return Problem(429, "rate_limited", f"Too many requests; wait {seconds} s.", headers=wait)

    def headers(self) -> dict[str, str]:
        """Say what is left in the fields of the IETF draft (draft-ietf-httpapi-ratelimit-headers-10), and OpenAI's."""
        remaining, seconds = self._left()
        return {
            "RateLimit-Policy": f'"requests";q={self._limit.amount};w={self._limit.get_expiry()}',
            "RateLimit": f'"requests";r={remaining};t={seconds}',
            "X-RateLimit-Limit-Requests": str(self._limit.amount),
            "X-RateLimit-Remaining-Requests": str(remaining),
            "X-RateLimit-Reset-Requests": f"{seconds}s",
        }

    def _left(self) -> tuple[int, int]:
        """Requests that are left, and the seconds to the next minute's."""
        stats = self._limiter.get_window_stats(self._limit, *self._identifiers)
        return stats.remaining, max(0, math.ceil(stats.reset_time - time.time()))

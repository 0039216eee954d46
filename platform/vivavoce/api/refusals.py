"""What the log is told of those who were not let in: each by itself, and a flood of them as a number."""

from __future__ import annotations

import threading

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from vivavoce.api.keys import find_key
from vivavoce.api.services import Services
from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.tags import Tag

MOST_LOGGED_PER_MINUTE = 600
"""Refusals that one API host logs one by one, from all addresses together: a botnet must not fill the log for ever."""


class Refusals:
    """Logs refusals at the gate. What is too much for it is counted, and the next one that is logged says how many."""

    def __init__(self, services: Services, most_per_minute: int = MOST_LOGGED_PER_MINUTE) -> None:
        self._services = services
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._most = RateLimitItemPerMinute(most_per_minute)
        self._uncounted = threading.Lock()
        self._unlogged = 0

    def log(self, area: str, token: str | None, reason: str) -> None:
        """Log that somebody was refused; `area` and `reason` are words of ours, `token` is looked up and not logged.

        Raises:
            LogUnavailable: It cannot be logged.
        """
        with self._uncounted:
            if not self._limiter.hit(self._most):
                self._unlogged += 1
                return
            unlogged, self._unlogged = self._unlogged, 0
        facts: dict[str, Json] = {"reason": reason, "area": area}
        if unlogged:
            facts["unlogged"] = unlogged
        try:
            with self._services.database.write() as session:
                known = find_key(session, self._services.keyring, token) if token else None
                refs = {"key": known.id} if known else {}
                tenant_id = known.tenant_id if known else None
                self._services.log.append(session, Entry(Tag.AUTH_REFUSE, tenant_id, "anonymous", refs, facts))
        except Exception:
            with self._uncounted:
                self._unlogged += unlogged + 1
            raise

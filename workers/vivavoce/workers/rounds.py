"""A thread that does its round again and again beside the jobs."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from vivavoce.workers.logs import log_unforeseen


class Rounds(ABC):
    """Goes its round every so many seconds until it is closed.

    Whatever is away (database, log, store) may be back at the next round: an error is logged, and the thread goes on.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, with a first round at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the round that is under way."""
        self._closing.set()
        self._thread.join()

    @abstractmethod
    def _go(self) -> bool:
        """Go one round; says whether there is more to do at once."""

    def _run(self) -> None:
        more = True
        while more or not self._closing.wait(self._seconds):
            try:
                more = self._go() and not self._closing.is_set()
            except Exception as error:
                log_unforeseen(f"{self._name}_failed", error)
                more = False

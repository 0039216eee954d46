"""One thread by which a worker tells that it is there, busy or idle, until it stops."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

import structlog
import torch
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.ledger.workers import BEAT, Worker, gone, told
from vivavoce.model.memory import available_bytes, device_name, total_bytes
from vivavoce.workers.host import Host
from vivavoce.workers.rounds import Rounds

_log = structlog.get_logger("vivavoce.workers")


class Presence(Rounds):
    """Tells every few seconds; a database that is away is told again later."""

    def __init__(self, host: Host) -> None:
        super().__init__("presence", BEAT.total_seconds())
        self._host = host
        self._device = torch.device(host.settings.device)
        self._started = datetime.now(UTC)

    def close(self) -> None:
        """Stop, and tell that this worker is gone."""
        super().close()
        try:
            with self._host.database.write() as session:
                gone(session, self._host.owner)
        except SQLAlchemyError as error:
            _log.warning("presence_not_told", error=type(error).__name__)  # it will be seen as silent

    def _go(self) -> bool:
        with self._host.database.write() as session:
            told(session, self._now())
        return False

    def _now(self) -> Worker:
        return Worker(
            id=self._host.owner,
            version=version("vivavoce"),
            model_id=self._host.model_id,
            device=device_name(self._device),
            memory_bytes=total_bytes(self._device),
            free_bytes=available_bytes(self._device),
            loaded=self._host.engine.loaded,
            slots=self._host.settings.concurrency,
            started_at=self._started,
            seen_at=datetime.now(UTC),
        )

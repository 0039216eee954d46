"""The file transport of the embedded default: kombu's, with messages that appear and are taken in one step.

kombu 5.7 creates a message's file and then writes it, so a reader that is quick enough finds it empty and the worker's
consumer dies of it; and it takes messages by moving them to the system's temporary folder, which is a copy where that
is another file system. Here both are one rename within one file system (POSIX rename is atomic).
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

import structlog
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

_log = structlog.get_logger("vivavoce.workers")


class Channel(filesystem.Channel):
    """A channel over one folder of message files, named `{time}_{chance}.{queue}.msg`."""

    def _put(self, queue: str, payload: dict[str, Any], **_: object) -> None:  # type: ignore[override]
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        unfinished = Path(self.processed_folder) / name
        unfinished.write_text(dumps(payload), encoding="utf-8")  # type: ignore[no-untyped-call]
        unfinished.replace(Path(self.data_folder_out) / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ANN401, ARG002 - kombu's signature
        for path in sorted(Path(self.data_folder_in).glob(f"*.{queue}.msg")):
            taken = Path(self.processed_folder) / path.name
            try:
                path.rename(taken)
            except FileNotFoundError:
                continue  # another worker was first
            text = taken.read_text(encoding="utf-8")
            taken.unlink()
            try:
                return loads(text)  # type: ignore[no-untyped-call]
            except json.JSONDecodeError:
                _log.warning("message_unreadable", file=path.name)
        raise Empty


class Transport(filesystem.Transport):
    """The file transport for `broker_transport`."""

    Channel = Channel

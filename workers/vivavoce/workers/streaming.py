"""A sound that leaves while it is made: pieces from the engine, marked and proved chunks to the door.

The engine's thread lays pieces into a queue; the job's own thread marks them, so that the batch never waits for a mark.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import cast

import numpy as np
from sqlalchemy.orm import Session
from torch import Tensor

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import advance
from vivavoce.ledger.tables import Job, JobStage, Output
from vivavoce.model.voice_model import Request
from vivavoce.release import door, stream
from vivavoce.release.chunks import ChunkMarker, MarkedChunk
from vivavoce.sound import Format, Samples, TempoChanger
from vivavoce.workers.errors import Stopped
from vivavoce.workers.host import Host
from vivavoce.workers.keeper import Hold
from vivavoce.workers.long_text import Joiner

INTERRUPTED = ("stream_interrupted", "the worker was lost after the sound had begun to leave; it cannot be taken up")


class Streaming:
    """One attempt at one job whose sound is streamed.

    Args:
        labels: What the file says of its origin.
        hold: The lease that it is worked under.
    """

    def __init__(self, host: Host, job: Job, labels: door.Labels, hold: Hold) -> None:
        self._host, self._hold = host, hold
        self._marker = ChunkMarker(
            host.sample_rate,
            cast("Format", job.format),
            new_id("out"),
            marker=host.marker,
            keyring=host.keyring,
            labels=labels,
        )

    def run(self, asked: Sequence[Request], speed: float) -> Output:
        """Make the sound part by part, and let it leave chunk by chunk.

        Raises:
            Stopped: The lease was lost, or the worker must stop.
            ReleaseRefused, ModelError, MarkError: The sound ends here; what has left stays as it is in the log.
        """
        tempo, joiner = TempoChanger(self._host.sample_rate, speed), Joiner(self._host.sample_rate)
        self._feed(np.zeros(0, dtype=np.float32))  # a disclosure need not wait for the voice behind it
        for number, part in enumerate(asked):
            if number:
                self._feed(tempo.feed(joiner.next_part()))
            self._say(part, lambda piece: self._feed(tempo.feed(joiner.feed(piece))))
        self._feed(tempo.feed(joiner.finish()))
        self._feed(tempo.finish())
        return self._end()

    def _say(self, part: Request, hear: Callable[[Samples], None]) -> None:
        """Have the engine make a part, heard while it is made; where it is not heard to its end, it is not made."""
        pieces: SimpleQueue[Tensor | None] = SimpleQueue()
        over = threading.Event()
        future = self._host.engine.submit(part, cancelled=lambda: over.is_set() or self._must_stop(), hear=pieces.put)
        future.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                hear(piece.numpy())
            self._go_on()
            future.result()
        finally:
            over.set()

    def _feed(self, samples: Samples) -> None:
        self._go_on()
        chunk = self._marker.feed(samples)
        if chunk is None:
            return
        with self._host.database.write() as session:
            self._put(session, chunk)

    def _put(self, session: Session, chunk: MarkedChunk) -> None:
        host = self._host
        if not stream.put(session, host.log, host.keyring, self._hold.lease, chunk, self._marker, _now()):
            raise Stopped

    def _end(self) -> Output:
        """The last chunk leaves with the outcome, in one transaction."""
        host = self._host
        with host.database.write() as session:
            if not advance(session, self._hold.lease, JobStage.MARKING):
                raise Stopped
        marked, last = self._marker.finish(host.credential)
        with host.database.read() as session:
            deposited = door.deposit(session, host.store, host.keyring, self._hold.lease, marked)
        with host.database.write() as session:
            self._put(session, last)
            output = door.commit(session, host.log, host.keyring, deposited, _now())
            if output is None:
                raise Stopped
        return output

    def _must_stop(self) -> bool:
        return self._hold.lost.is_set() or self._host.stopping.is_set()

    def _go_on(self) -> None:
        if self._must_stop():
            raise Stopped


def _now() -> datetime:
    return datetime.now(UTC)

"""The engine: one thread owns the device and runs all requests in one batch.

Requests are queued from any thread. Between two groups the engine lets waiting requests join, drops those that were
cancelled, and answers those that are done; a request that fails, fails alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder, Row
from vivavoce.model.voice_model import Generated, Plan, Request, VoiceModel


class GenerationCancelled(ModelError):
    """The request was cancelled before its output was complete."""


@dataclass(frozen=True)
class _Ticket:
    request: Request
    cancelled: Callable[[], bool]
    future: Future[Generated]


@dataclass(frozen=True)
class _Running:
    ticket: _Ticket
    plan: Plan
    row: Row


class Engine:
    """Continuous batching over one voice model.

    Attributes:
        rows_peak: the largest number of requests that were in one batch.
    """

    def __init__(self, model: VoiceModel, max_rows: int = 8) -> None:
        if max_rows < 1:
            raise ModelError("an engine needs at least one row")
        self.rows_peak = 0
        self._model = model
        self._max_rows = max_rows
        self._decoder = Decoder(model.packed)
        self._running: list[_Running] = []
        self._waiting: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._closing = False
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="vivavoce-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, cancelled: Callable[[], bool] = lambda: False) -> Future[Generated]:
        """Queue a request.

        Args:
            request: what to generate.
            cancelled: asked between two groups, on the engine's thread; once true, the request is dropped.

        Returns:
            The output, or the error: `ModelError` for what the request or the model is to blame for,
            `GenerationCancelled` when it was cancelled.

        Raises:
            ModelError: the engine is closed.
        """
        future: Future[Generated] = Future()
        with self._door:
            if self._closing:
                raise ModelError("the engine is closed")
            self._waiting.put(_Ticket(request, cancelled, future))
        return future

    def close(self) -> None:
        """Take no more requests, finish those that were taken, and end the thread."""
        with self._door:
            if not self._closing:
                self._closing = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_door = True
        while open_door or self._running:
            open_door = open_door and self._admit()
            self._drop_cancelled()
            self._step()

    def _admit(self) -> bool:
        """Let waiting requests join; wait for one when there is nothing to do. False when the last one is in."""
        while len(self._running) < self._max_rows:
            try:
                ticket = self._waiting.get(block=not self._running)
            except queue.Empty:
                return True
            if ticket is None:
                return False
            self._start(ticket)
        return True

    def _start(self, ticket: _Ticket) -> None:
        if not ticket.future.set_running_or_notify_cancel():
            return
        try:
            _ask(ticket, 0)
            plan = self._model.plan(ticket.request)
            row = self._decoder.join(plan.continuation)
        except Exception as error:  # whatever it is, it is this request's
            ticket.future.set_exception(error)
            return
        self._running.append(_Running(ticket, plan, row))
        self.rows_peak = max(self.rows_peak, len(self._running))

    def _drop_cancelled(self) -> None:
        for one in list(self._running):
            try:
                _ask(one.ticket, len(one.row.text))
            except Exception as error:  # a question that cannot be answered ends its own request only
                self._decoder.leave(one.row)
                self._running.remove(one)
                one.ticket.future.set_exception(error)

    def _step(self) -> None:
        try:
            done = self._decoder.step()
        except Exception as error:  # nobody knows whose fault it is: the batch ends, the engine goes on
            for one in self._running:
                one.ticket.future.set_exception(error)
            self._running, self._decoder = [], Decoder(self._model.packed)
            return
        for one in [one for one in self._running if one.row in done]:
            self._running.remove(one)
            if one.row.error is not None:
                one.ticket.future.set_exception(one.row.error)
                continue
            try:
                one.ticket.future.set_result(self._model.read(one.plan, one.row))
            except Exception as error:  # as above: this request's
                one.ticket.future.set_exception(error)


def _ask(ticket: _Ticket, groups: int) -> None:
    """Raise where a request was cancelled."""
    if ticket.cancelled():
        raise GenerationCancelled(f"cancelled after {groups} groups")

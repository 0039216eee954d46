"""The engine: one thread owns the device and runs all requests in one batch.

Requests are queued from any thread. Between two groups the engine lets waiting requests join, drops those that were
cancelled, and answers those that are done; a request that fails, fails alone. Requests join in the order in which they
came: one that needs more memory than is free just now is waited for, and not overtaken.

An engine that has nothing to do for a while may give its model's memory back and load it again for the next request.
Only its own thread does so, between requests: nothing can be in use then.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from vivavoce.model.errors import ModelError
from vivavoce.model.generation import Decoder
from vivavoce.model.hearing import Hear, Hearing
from vivavoce.model.rows import Row
from vivavoce.model.voice_model import ROWS, Generated, Plan, Request, VoiceModel


class GenerationCancelled(ModelError):
    """The request was cancelled before its output was complete."""


@dataclass(frozen=True)
class Idle:
    """When to let go of a model that nobody uses, and how to get it back.

    Attributes:
        seconds: without a request.
        load: gives the same model again.
    """

    seconds: float
    load: Callable[[], VoiceModel]


@dataclass(frozen=True, eq=False)
class _Ticket:
    request: Request
    cancelled: Callable[[], bool]
    hearing: Hearing | None
    future: Future[Generated]


@dataclass(frozen=True, eq=False)
class _Planned:
    ticket: _Ticket
    plan: Plan


@dataclass(frozen=True, eq=False)  # two requests may be for the same, and clips cannot be compared by ==
class _Running:
    ticket: _Ticket
    plan: Plan
    row: Row


class Engine:
    """Continuous batching over one voice model.

    Attributes:
        rows_peak: the largest number of requests that were in one batch.

    Args:
        model: what to run; nobody else may.
        max_rows: of a batch.
        blocks: of keys and values that all rows share; None: each row may fill its context.
        idle: when to unload the model; None: never.
    """

    def __init__(
        self, model: VoiceModel, max_rows: int = ROWS, blocks: int | None = None, idle: Idle | None = None
    ) -> None:
        if max_rows < 1:
            raise ModelError("an engine needs at least one row")
        self.rows_peak = 0
        self._loaded: VoiceModel | None = model
        self._max_rows, self._blocks, self._idle = max_rows, blocks, idle
        self._decoder = Decoder(model.packed, max_rows, blocks)
        self._next: _Planned | None = None
        self._running: list[_Running] = []
        self._waiting: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._closing = False
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="vivavoce-engine", daemon=True)
        self._thread.start()

    def submit(
        self, request: Request, cancelled: Callable[[], bool] = lambda: False, hear: Hear | None = None
    ) -> Future[Generated]:
        """Queue a request.

        Args:
            request: what to generate.
            cancelled: asked between two groups, on the engine's thread; once true, the request is dropped.
            hear: given the sound piece by piece while it is made, on the engine's thread, which waits for it; what it
                raises ends the request. The same ids are drawn as without. The output is then the pieces joined, whose
                norms over the whole sequence had only what was there to count (`AudioTokenizer.decode_chunk`).

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
            self._waiting.put(_Ticket(request, cancelled, None if hear is None else Hearing(hear), future))
        return future

    def close(self) -> None:
        """Take no more requests, finish those that were taken, and end the thread."""
        with self._door:
            if not self._closing:
                self._closing = True
                self._waiting.put(None)
        self._thread.join()

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._loaded is not None

    @property
    def waiting(self) -> int:
        """Requests that have not joined the batch yet."""
        return self._waiting.qsize() + (self._next is not None)

    def _run(self) -> None:
        open_door = True
        while open_door or self._running:
            open_door = open_door and self._admit()
            self._drop_cancelled()
            self._step()

    def _admit(self) -> bool:
        """Let waiting requests join; wait for one when there is nothing to do. False when the last one is in."""
        while len(self._running) < self._max_rows:
            if self._next is None:
                try:
                    ticket = self._wait()
                except queue.Empty:
                    return True
                if ticket is None:
                    return False
                self._next = self._plan(ticket)
            elif self._running and not self._decoder.has_room(self._next.plan.continuation):
                return True
            else:
                self._start(self._next)
                self._next = None
        return True

    def _wait(self) -> _Ticket | None:
        """The next ticket, at once if there is a batch; raises `queue.Empty`."""
        if self._running:
            return self._waiting.get(block=False)
        if self._idle is not None and self._loaded is not None:
            try:
                return self._waiting.get(timeout=self._idle.seconds)
            except queue.Empty:
                self._unload()
        return self._waiting.get()

    def _unload(self) -> None:
        del self._decoder
        self._loaded = None
        gc.collect()  # modules hold one another
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _model(self) -> VoiceModel:
        """The model, loaded again if need be."""
        if self._loaded is None:
            if self._idle is None:
                raise ModelError("the model was unloaded")
            self._loaded = self._idle.load()
            self._decoder = Decoder(self._loaded.packed, self._max_rows, self._blocks)
        return self._loaded

    def _plan(self, ticket: _Ticket) -> _Planned | None:
        if not ticket.future.set_running_or_notify_cancel():
            return None
        try:
            _ask(ticket, 0)
            return _Planned(ticket, self._model().plan(ticket.request))
        except Exception as error:  # whatever it is, it is this request's
            ticket.future.set_exception(error)
            return None

    def _start(self, planned: _Planned) -> None:
        try:
            row = self._decoder.join(planned.plan.continuation)
        except Exception as error:  # as above
            planned.ticket.future.set_exception(error)
            return
        self._running.append(_Running(planned.ticket, planned.plan, row))
        self.rows_peak = max(self.rows_peak, len(self._running))

    def _drop_cancelled(self) -> None:
        for one in list(self._running):
            try:
                _ask(one.ticket, len(one.row.text))
            except Exception as error:  # a question that cannot be answered ends its own request only
                self._drop(one, error)
        if self._next is not None:
            try:
                _ask(self._next.ticket, 0)
            except Exception as error:  # as above
                self._next.ticket.future.set_exception(error)
                self._next = None

    def _step(self) -> None:
        if not self._running:
            return
        try:
            done = self._decoder.step()
        except Exception as error:  # nobody knows whose fault it is: the batch ends, the engine goes on
            for one in self._running:
                one.ticket.future.set_exception(error)
            self._running, self._decoder = [], Decoder(self._model().packed, self._max_rows, self._blocks)
            return
        for one in [one for one in self._running if one.row in done]:
            self._running.remove(one)
            if one.row.error is not None:
                one.ticket.future.set_exception(one.row.error)
                continue
            try:
                one.ticket.future.set_result(self._model().read(one.plan, one.row, one.ticket.hearing))
            except Exception as error:  # as above: this request's
                one.ticket.future.set_exception(error)
        self._let_hear()

    def _let_hear(self) -> None:
        """Let those be heard who are heard while they are made."""
        heard = [(one, one.ticket.hearing) for one in self._running if one.ticket.hearing is not None]
        if not heard:
            return
        try:
            self._model().let_hear([(one.plan, one.row, hearing) for one, hearing in heard])
        except Exception:  # no state has changed: each alone, and only who fails again has failed
            for one, hearing in heard:
                try:
                    self._model().let_hear([(one.plan, one.row, hearing)])
                except Exception as error:
                    hearing.error = error
        for one, hearing in heard:
            if hearing.error is not None:
                self._drop(one, hearing.error)

    def _drop(self, one: _Running, error: Exception) -> None:
        self._decoder.leave(one.row)
        self._running.remove(one)
        one.ticket.future.set_exception(error)


def _ask(ticket: _Ticket, groups: int) -> None:
    """Raise where a request was cancelled."""
    if ticket.cancelled():
        raise GenerationCancelled(f"cancelled after {groups} groups")

"""One worker process: the things that live as long as it does, loaded before the first job is accepted."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Self

import structlog
import torch

from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.schema import require_head
from vivavoce.model.engine import Engine, Idle
from vivavoce.model.memory import require_rows, require_weights, row_memory
from vivavoce.model.voice_model import VoiceModel, default_folder
from vivavoce.provenance import Credential, open_credential
from vivavoce.watermark import Marker
from vivavoce.workers.errors import StartError
from vivavoce.workers.keeper import LeaseKeeper
from vivavoce.workers.listeners import Listeners
from vivavoce.workers.natural import Natural
from vivavoce.workers.settings import WorkerSettings
from vivavoce.workers.tasknames import producer

_log = structlog.get_logger("vivavoce.workers")


class Host:
    """Database, store, keys, log, one marker, and one engine whose thread owns the device."""

    def __init__(
        self, settings: WorkerSettings, database: Database, store: ObjectStore, keyring: KeyRing,
        credential: Credential, marker: Marker, engine: Engine, model_id: str, sample_rate: int,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.database = database
        self.store = store
        self.keyring = keyring
        self.credential = credential
        self.log = Log(keyring, settings.log_origin)
        self.marker = marker
        self.natural = Natural(marker)
        self.listeners = Listeners()
        self.engine = engine
        self.model_id = model_id
        self.sample_rate = sample_rate
        """Of what the engine makes, in Hz."""
        self.celery = producer(settings)
        self.keeper = LeaseKeeper(database, settings.lease_ttl)
        # Random, for a process id may be used again: a new worker must never take an old one's lease for its own.
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.stopping = threading.Event()
        """Set when jobs still running must break off and be given back."""
        self.unfinished: SimpleQueue[str] = SimpleQueue()
        """Jobs for other workers, to be rung for once this one no longer listens itself."""

    @classmethod
    def open(cls, settings: WorkerSettings) -> Self:
        """Load everything, or say what is missing.

        Raises:
            StartError: Database, keys, certificate, marker or model are not usable. Nothing falls back to working
                without.
        """
        with _needed("the ledger is not usable"):
            require_head(settings.database_url)
            keyring = KeyRing.open(settings.keys_folder)
            store = ObjectStore(settings.objects_url)
        with _needed("no file can be signed, and none leaves unsigned"):
            credential = open_credential(settings)
        with _needed("the watermark cannot be loaded, and no sound leaves without one"):
            marker = Marker.load(settings.marker_folder, device=settings.device, secret=keyring.mark_key)
        with _needed("the voice model cannot be loaded"):
            folder = settings.model_folder or default_folder()
            require_weights(folder, torch.device(settings.device), "VIVAVOCE_MODEL_FOLDER")
            load = partial(VoiceModel.from_pretrained, folder, settings.device, settings.concurrency)
            model = load()
            memory = row_memory(model.packed, settings.concurrency)
            require_rows(memory, "VIVAVOCE_MODEL_FOLDER")
        _log.info(
            "engine_memory", rows=memory.rows, full_rows=memory.most_rows, bytes_a_row=memory.row,
            bytes_free=memory.available,
        )  # fmt: skip
        if torch.device(settings.device).type == "cpu":
            # The engine's batch and the marker run beside one another; more threads each only get in their way.
            torch.set_num_threads(1)
        idle = None if settings.unload_seconds is None else Idle(settings.unload_seconds, load)
        model_id, sample_rate = model.model_id, model.tokenizer.sample_rate
        engine = Engine(model, settings.concurrency, memory.blocks, idle)
        database = Database(settings.database_url)
        return cls(settings, database, store, keyring, credential, marker, engine, model_id, sample_rate)

    def close(self) -> None:
        """Let go of everything; call it when no job runs any more."""
        self.keeper.close()
        self.engine.close()
        self.celery.close()
        self.database.close()


@contextmanager
def _needed(reason: str) -> Iterator[None]:
    """Turn whatever goes wrong into the reason why this worker cannot start."""
    try:
        yield
    except Exception as error:
        raise StartError(f"{reason}: {error or type(error).__name__}") from error

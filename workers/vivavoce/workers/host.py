"""One worker process: the things that live as long as it does, loaded before the first job is accepted."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Self

import torch

from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.schema import require_head
from vivavoce.model.engine import Engine
from vivavoce.model.voice_model import VoiceModel, default_folder
from vivavoce.provenance import Credential, open_credential
from vivavoce.watermark import Marker
from vivavoce.workers.errors import StartError
from vivavoce.workers.keeper import LeaseKeeper
from vivavoce.workers.natural import Natural
from vivavoce.workers.settings import WorkerSettings
from vivavoce.workers.tasknames import producer


class Host:
    """Database, store, keys, log, one marker, and one engine whose thread owns the device."""

    def __init__(
        self, settings: WorkerSettings, database: Database, store: ObjectStore, keyring: KeyRing,
        credential: Credential, marker: Marker, engine: Engine, model_id: str,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.database = database
        self.store = store
        self.keyring = keyring
        self.credential = credential
        self.log = Log(keyring, settings.log_origin)
        self.marker = marker
        self.natural = Natural(marker)
        self.engine = engine
        self.model_id = model_id
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
            model = VoiceModel.from_pretrained(settings.model_folder or default_folder(), device=settings.device)
        if torch.device(settings.device).type == "cpu":
            # The engine's batch and the marker run beside one another; more threads each only get in their way.
            torch.set_num_threads(1)
        engine = Engine(model, max_rows=settings.concurrency)
        return cls(
            settings, Database(settings.database_url), store, keyring, credential, marker, engine, model.model_id
        )

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

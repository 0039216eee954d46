"""A small installation for the tests of workers: ledger, store in a folder, keys, broker, and real worker processes.

Worker processes are forked from a server that has imported torch once; each then loads model and marker by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.consent.world import SPEECH, World
from tests.forks import FORKS
from tests.workers import worker_main

from vivavoce.audit.log import Log
from vivavoce.consent import Scope
from vivavoce.consent.voices import Clip, check_clip, create_voice
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobStatus, Output
from vivavoce.workers.settings import WorkerSettings
from vivavoce.workers.tasknames import producer, ring

CLIP = check_clip((SPEECH / "austen-0930.flac").read_bytes(), "he might even have been made amiable himself")
SHORT = "Go forward ten meters."
LONG = "He was not an ill-disposed young man, unless to be cold hearted."
WAIT_SECONDS = 300

_workers: set[BaseProcess] = set()


def now() -> datetime:
    return datetime.now(UTC)


class House(World):
    """One tenant whose speaker has consented, with one voice; and the means to run jobs on it."""

    def __init__(self, home: Path, database_url: str, broker_url: str = "", **settings: float) -> None:
        keyring = KeyRing.open(home / "keys", create=True)
        super().__init__(Database(database_url), keyring)
        short = {"lease_seconds": 2.0, "reap_seconds": 0.5, "grace_seconds": 10.0, "concurrency": 4}
        self.settings = WorkerSettings(
            home=home, database_url=database_url, broker_url=broker_url, **(short | settings)
        )
        self.store = ObjectStore(self.settings.objects_url)
        self.log = Log(keyring, self.settings.log_origin)
        self.bell = producer(self.settings)
        self.consent_id = self.consent(now=now() - timedelta(minutes=1))
        self.voice_id = self.found_voice(self.consent_id)

    def found_voice(self, consent_id: str, clip: Clip = CLIP) -> str:
        with self.database.write() as session:
            return create_voice(
                session,
                self.log,
                self.store,
                self.keyring,
                tenant_id=self.account.tenant_id,
                actor=self.account.key_id,
                name="Jane",
                consent_id=consent_id,
                clip=clip,
                now=now(),
            ).id

    def another_voice(self, scope: Scope = Scope()) -> tuple[str, str]:  # noqa: B008
        """Another speaker: their consent and voice."""
        consent_id = self.consent(now=now() - timedelta(minutes=1), scope=scope)
        return consent_id, self.found_voice(consent_id)

    def queue(self, text: str = SHORT, voice_id: str | None = None, **changes: object) -> str:
        """Admit a speech job, without ringing for it."""
        asked = {"request": {"text": text, "seed": 1}} | changes
        return self.admit(self.submission(voice_id or self.voice_id, **asked), now()).id

    def ring(self, job_id: str) -> None:
        assert ring(self.bell, job_id)

    def final(self, job_id: str) -> Job:
        """Wait until a job has ended."""
        wait_for(lambda: JobStatus(self.job(job_id).status).final, f"the end of {job_id}")
        return self.job(job_id)

    def output(self, job_id: str) -> Output | None:
        with self.database.read() as session:
            return session.query(Output).filter(Output.job_id == job_id).one_or_none()

    def outcomes(self, job_id: str) -> list[dict[str, object]]:
        """Facts of the outcome leaves of a job."""
        leaves = self.leaves("job:outcome", "detect:outcome")
        return [leaf["facts"] for leaf in leaves if leaf["refs"]["job"] == job_id]

    def check_one_end(self, job_id: str, status: JobStatus, code: str | None = None) -> Job:
        """The promise: one intent, one outcome, and sounds in the store exactly where an output names them."""
        job = self.final(job_id)
        assert (job.status, job.error_code) == (status, code)
        intents = [leaf for leaf in self.leaves("job:intent", "detect:intent") if leaf["refs"]["job"] == job_id]
        assert len(intents) == 1
        (outcome,) = self.outcomes(job_id)
        assert (outcome["status"], outcome["code"]) == (status, code)
        output = self.output(job_id)
        assert (output is not None) == (status is JobStatus.SUCCEEDED and job.kind != "detection")
        # The sweep of what a loser left behind may come a moment after the end.
        named = [output.object_key] if output else []
        wait_for(lambda: self.store.list(f"outputs/{job_id}") == named, "the sweep")
        return job

    def exit_of(self, worker: BaseProcess, job_id: str) -> int | None:
        """Wait for a worker's death; None if the job has ended under it, or nothing comes of it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while worker.exitcode is None and not JobStatus(self.job(job_id).status).final:
            worker.join(0.1)
            if time.monotonic() > deadline:
                break
        return worker.exitcode

    @contextmanager
    def worker(self, crash: str | None = None, **changes: object) -> Iterator[BaseProcess]:
        """A worker process; with `crash`, one that kills itself by SIGKILL at that point of its first job."""
        settings = self.settings.model_copy(update=changes)
        process = FORKS.Process(target=worker_main.main, args=(settings, crash), daemon=True)
        process.start()
        _workers.add(process)
        try:
            yield process
        finally:
            process.kill()
            process.join()
            _workers.discard(process)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s in vain for {what}"
        # A worker that is dead already need not be waited for.
        assert all(child.exitcode is None for child in _workers), f"a worker ended before {what}"
        time.sleep(0.05)

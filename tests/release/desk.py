"""What the release tests work with: a small quick marker, real speech, and a worker's steps one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache

import numpy as np
from tests.consent.world import NOW, SPEECH, World

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease
from vivavoce.ledger.tables import Job, Output
from vivavoce.release.door import Deposited, Labels, Marked, Released, Withheld, commit, deposit, open_output, prepare
from vivavoce.sound import Format, Samples, decode

SPOKEN = decode((SPEECH / "austen-0880.flac").read_bytes())
LABELS = Labels(model_id="test-model", assurance="attested", created_at=NOW)


@dataclass(frozen=True)
class Finding:
    """What the quick marker says."""

    found: bool
    score: float
    message: int | None
    message_confidence: float = 1.0


class QuickMarker:
    """A keyed pseudo-noise mark, found by correlation (Cox et al. 1997). Milliseconds, so that races can have many
    rounds; it stands up to WAV, FLAC and PCM, and to little else. The shipped marker has tests of its own."""

    bits = 4
    level = 0.06
    """Amplitude of the mark over that of the speech."""
    threshold = 6.0
    """Standard deviations of the correlation with speech that carries no mark."""

    def embed(self, samples: Samples, sample_rate: int, message: int, strength: float) -> Samples:
        loudness = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
        marked = samples + strength * self.level * loudness * self._noise(message, len(samples))
        return marked.astype(np.float32)

    def detect(self, samples: Samples, sample_rate: int) -> Finding:
        # The difference of neighbours whitens speech and leaves most of the noise.
        white = np.diff(samples.astype(np.float64))
        scores = [
            float(white @ np.diff(self._noise(message, len(samples)))) / (np.linalg.norm(white) * np.sqrt(2) + 1e-12)
            for message in range(2**self.bits)
        ]
        best = int(np.argmax(scores))
        return Finding(scores[best] > self.threshold, scores[best], best)

    @staticmethod
    @cache
    def _noise(message: int, length: int) -> np.ndarray:
        return 2.0 * np.random.default_rng(message).integers(2, size=length) - 1.0


def mark(world: World, format: Format = "wav", output_id: str | None = None) -> Marked:  # noqa: A002
    """Mark real speech for an output."""
    return prepare(
        SPOKEN.samples,
        SPOKEN.sample_rate,
        format,
        output_id or new_id("out"),
        marker=QuickMarker(),
        keyring=world.keyring,
        labels=LABELS,
    )


def begin(world: World, voice_id: str, now: datetime = NOW) -> tuple[Job, Lease]:
    """Admit a job and take it."""
    job = world.admit(world.submission(voice_id), now)
    return job, world.claim(job.id, now=now)


def put_down(world: World, lease: Lease, marked: Marked | None = None) -> Deposited:
    """Store a marked sound for a job."""
    with world.database.read() as session:
        return deposit(session, world.store, world.keyring, lease, marked or mark(world))


def finish_with(world: World, deposited: Deposited, now: datetime = NOW) -> Output | None:
    """Commit a sound, as a worker does."""
    with world.database.write() as session:
        return commit(session, world.log, world.keyring, deposited, now)


def made(world: World, voice_id: str, marked: Marked | None = None) -> Output:
    """Take a job through to its output."""
    _, lease = begin(world, voice_id)
    output = finish_with(world, put_down(world, lease, marked))
    assert output is not None
    return output


def fetch(world: World, output_id: str, now: datetime = NOW, tenant_id: str | None = None) -> Released | Withheld:
    """Ask for an output, as the API does."""
    with world.database.write() as session:
        return open_output(
            session,
            world.store,
            world.keyring,
            world.log,
            output_id,
            tenant_id or world.account.tenant_id,
            now,
            actor=world.account.key_id,
        )

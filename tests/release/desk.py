"""What the release tests work with: a small quick marker, real speech, and a worker's steps one by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from math import log
from typing import Any

import numpy as np
from tests.consent.world import NOW, SPEECH, World
from tests.provenance.authority import credential

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import Lease
from vivavoce.ledger.tables import Job, Output
from vivavoce.release.door import Deposited, Labels, Marked, Released, Withheld, commit, deposit, open_output, prepare
from vivavoce.sound import Format, Samples, decode

SPOKEN = decode((SPEECH / "austen-0880.flac").read_bytes())
PRESENCE = 2**48  # no identity
LABELS = Labels(model_id="test-model", assurance="attested", created_at=NOW, disclosure="en")


@dataclass(frozen=True)
class Finding:
    """What the quick marker says."""

    found: bool
    score: float
    reading: Any


class QuickMarker:
    """Pseudo-noise marks, found by correlation (Cox et al. 1997): one that is always the same, and one of the identity.
    Milliseconds, so that races can have many rounds; they stand up to WAV, FLAC and PCM, and to little else. The
    shipped marker has tests of its own."""

    level = 0.05
    """Amplitude of each of the two marks over that of the speech."""
    threshold = 7.8
    """-log10 of the probability that chance correlates so well: six standard deviations."""

    def require(self, samples: Samples, sample_rate: int) -> None:
        pass  # takes whatever comes

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        loudness = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
        noise = self._noise(PRESENCE, len(samples)) + self._noise(identity, len(samples))
        return (samples + strength * self.level * loudness * noise).astype(np.float32)

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        # The difference of neighbours whitens speech and leaves most of the noise.
        white = np.diff(samples.astype(np.float64))
        score = self._score(white, PRESENCE)
        return Finding(score > self.threshold, score, white)

    def doubt(self, reading: Any, identity: int) -> float:
        return float(10 ** -self._score(reading, identity))

    def _score(self, white: np.ndarray, seed: int) -> float:
        noise = np.diff(self._noise(seed, len(white) + 1))
        z = float(white @ noise) / (np.linalg.norm(white) * np.sqrt(2) + 1e-12)
        return max(0.0, z) ** 2 / 2 / log(10)

    @staticmethod
    @cache
    def _noise(seed: int, length: int) -> np.ndarray:
        # From the end on: what is left of a sound without its beginning still carries it.
        return (2.0 * np.random.default_rng(seed).integers(2, size=length) - 1.0)[::-1]


def mark(keyring: KeyRing, format: Format = "wav", output_id: str | None = None) -> Marked:  # noqa: A002
    """Mark real speech for an output."""
    return prepare(
        SPOKEN.samples,
        SPOKEN.sample_rate,
        format,
        output_id or new_id("out"),
        marker=QuickMarker(),
        keyring=keyring,
        credential=credential(),
        labels=LABELS,
    )


def begin(world: World, voice_id: str, now: datetime = NOW) -> tuple[Job, Lease]:
    """Admit a job and take it."""
    job = world.admit(world.submission(voice_id), now)
    return job, world.claim(job.id, now=now)


def put_down(world: World, lease: Lease, marked: Marked | None = None) -> Deposited:
    """Store a marked sound for a job."""
    with world.database.read() as session:
        return deposit(session, world.store, world.keyring, lease, marked or mark(world.keyring))


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

"""Making sound: what the engine is asked for, from the job's request and the voice's reference clips."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.consent.voices import open_clip
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobKind, ReferenceClip, Subject
from vivavoce.model.voice_model import ConversionRequest, Reference, SpeechRequest
from vivavoce.sound import decode

SLOWEST_SPEECH = 6.0
"""Characters a second, where ordinary English has about 15: what still goes on after this long has lost its way."""
SHORTEST_LIMIT_SECONDS = 5.0


def engine_request(
    job: Job, request: dict[str, Any], sound: bytes | None, references: tuple[Reference, ...]
) -> SpeechRequest | ConversionRequest:
    """Ask for a job's sound: its text, or what its input says, in the voice of the references; raises `SoundError`."""
    seed = _seed(job, request)
    if job.kind == JobKind.SPEECH:
        text = str(request["text"])
        limit = max(SHORTEST_LIMIT_SECONDS, len(text) / SLOWEST_SPEECH)
        return SpeechRequest(text=text, references=references, seed=seed, max_seconds=limit)
    heard = decode(sound or b"")
    return ConversionRequest(torch.from_numpy(heard.samples), heard.sample_rate, references=references, seed=seed)


def load_references(session: Session, job: Job, store: ObjectStore, keyring: KeyRing) -> tuple[Reference, ...]:
    """Read and unseal the clips that a voice is made of.

    Raises:
        Erased: The speaker has left.
        SealBroken: A clip is not the one that the voice was founded on.
        ObjectMissing: A clip is gone.
    """
    subject = session.get_one(Subject, job.subject_id)
    clips = session.scalars(
        select(ReferenceClip).where(ReferenceClip.voice_id == job.voice_id).order_by(ReferenceClip.id)
    )
    return tuple(_open_clip(clip, subject, store, keyring) for clip in clips)


def _open_clip(clip: ReferenceClip, subject: Subject, store: ObjectStore, keyring: KeyRing) -> Reference:
    data, transcript = open_clip(clip, subject, store, keyring)
    sound = decode(data)
    return Reference(torch.from_numpy(sound.samples), sound.sample_rate, transcript)


def _seed(job: Job, request: dict[str, Any]) -> int:
    # Derived where none is asked for, so that a second attempt makes the same sound as the first.
    seed = request.get("seed")
    return int.from_bytes(hashlib.sha256(job.id.encode()).digest()[:4]) if seed is None else int(seed)

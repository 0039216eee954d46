"""Making sound: what the engine is asked for, from the job's request and the voice's reference clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.consent.voices import open_clip
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobKind, ReferenceClip, Subject
from vivavoce.model.voice_model import ConversionRequest, Generated, Reference, SpeechRequest
from vivavoce.sound import Samples, change_tempo, decode
from vivavoce.workers.long_text import Joiner, parts

SLOWEST_SPEECH = 6.0
"""Characters a second, where ordinary English has about 15: what still goes on after this long has lost its way."""
SHORTEST_LIMIT_SECONDS = 5.0


def engine_requests(
    job: Job, request: dict[str, Any], sound: bytes | None, references: tuple[Reference, ...]
) -> tuple[SpeechRequest | ConversionRequest, ...]:
    """Ask for a job's sound in parts, to be joined: its text, or what its input says, in the voice of the references.

    Raises:
        SoundError: The input is no sound.
    """
    seed = _seed(job, request)
    if job.kind == JobKind.SPEECH:
        said = parts(str(request["text"])) or [""]
        return tuple(_part(text, references, (seed + number) % 2**63) for number, text in enumerate(said))
    heard = decode(sound or b"")
    return (ConversionRequest(torch.from_numpy(heard.samples), heard.sample_rate, references=references, seed=seed),)


def _part(text: str, references: tuple[Reference, ...], seed: int) -> SpeechRequest:
    limit = max(SHORTEST_LIMIT_SECONDS, len(text) / SLOWEST_SPEECH)
    return SpeechRequest(text=text, references=references, seed=seed, max_seconds=limit)


def joined(made: Sequence[Generated]) -> Generated:
    """Make one sound of those of its parts; one alone stays what it is."""
    if len(made) == 1:
        return made[0]
    rate, pieces = made[0].sample_rate, list[Samples]()
    joiner = Joiner(rate)
    for number, part in enumerate(made):
        pieces += [joiner.next_part()] if number else []
        pieces.append(joiner.feed(part.wave.numpy()))
    wave = np.concatenate((*pieces, joiner.finish()))
    cut = any(part.finished == "length" for part in made)
    return Generated(torch.from_numpy(wave), rate, len(wave) / rate, "length" if cut else "stop")


def at_speed(made: Generated, request: dict[str, Any]) -> Generated:
    """Make a sound as fast as its request asks. Before the release: the mark is put into what will be heard."""
    wave = change_tempo(made.wave.numpy(), made.sample_rate, speed_of(request))
    return replace(made, wave=torch.from_numpy(wave), seconds=len(wave) / made.sample_rate)


def speed_of(request: dict[str, Any]) -> float:
    """How many times faster than the model speaks."""
    return float(request.get("speed", 1.0))


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
    # Derived where none is asked for, from the attempt too: what gave silence once would give it again.
    seed = request.get("seed")
    derived = hashlib.sha256(f"{job.id}:{job.attempt}".encode()).digest()[:4]
    return int.from_bytes(derived) if seed is None else int(seed)

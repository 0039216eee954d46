"""A signer of this test run, and real speech in every kind of file."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from tests.consent.world import SPEECH

from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import Credential, Origin, ProvenanceSettings, Signed, bind_mark, open_credential, sign
from vivavoce.sound import MEDIA_TYPES, SPEECH_RATE, decode, encode, resample, tag

MARK_KEY = bytes(range(32))
IDENTITY = 0x123456789ABC
ORIGIN = Origin(
    output_id="out_01k9abcdefghjkmnpqrstvwxyz",
    created_at=datetime(2026, 11, 23, 6, 0, tzinfo=UTC),
    model_id="test-model",
    assurance="attested",
    binding=bind_mark(MARK_KEY, IDENTITY),
)
MEDIA = {**MEDIA_TYPES, "m4a": "audio/mp4"}
EMBEDDED, BESIDE = ("wav", "flac", "mp3", "m4a"), ("opus", "aac", "pcm")


@cache
def speech() -> np.ndarray:
    """float32[samples] at 24 kHz."""
    sound = decode((SPEECH / "goforward.flac").read_bytes())
    return resample(sound.samples, sound.sample_rate, SPEECH_RATE)


def m4a(samples: np.ndarray) -> bytes:
    """AAC in MP4. Not served, but what many make of our files."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ipod", container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("aac", rate=SPEECH_RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate = SPEECH_RATE
        for part in [*av.AudioResampler("fltp", "mono", SPEECH_RATE).resample(frame)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def labelled(kind: str, origin: Origin = ORIGIN, samples: np.ndarray | None = None) -> bytes:
    """A file as it is just before it is signed."""
    heard = speech() if samples is None else samples
    if kind == "m4a":
        return m4a(heard)
    return tag(encode(heard, SPEECH_RATE, kind), kind, origin.tags())  # type: ignore[arg-type]


def installation(home: Path) -> ProvenanceSettings:
    """Settings of a fresh installation that has its keys."""
    settings = ProvenanceSettings(home=home)
    KeyRing.open(settings.keys_folder, create=True)
    return settings


@pytest.fixture(scope="session")
def credential(tmp_path_factory: pytest.TempPathFactory) -> Credential:
    """What an installation makes itself."""
    return open_credential(installation(tmp_path_factory.mktemp("installation")))


@pytest.fixture(scope="session")
def signed(credential: Credential) -> dict[str, Signed]:
    """One file of each kind."""
    return {kind: sign(labelled(kind), MEDIA[kind], ORIGIN, credential) for kind in MEDIA}

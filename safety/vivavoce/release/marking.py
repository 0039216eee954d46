"""From model audio to a marked file: watermark, encode, label, sign, decode that very file, and find the mark in it.

There is no way through here without a mark and a signature. Where the mark is not found again, it is made stronger up
to what can still be borne to hear; then the sound is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Protocol, final

import numpy as np

from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import Credential, Origin, Signed, bind_mark, sign
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.sealed import TOKEN, OnlyHere
from vivavoce.sound import MEDIA_TYPES, SPEECH_RATE, Format, Samples, Sound, decode, encode, tag

_PCM_FULL_SCALE = 32767
_IDENTITY_BYTES = 6


@dataclass(frozen=True)
class Ladder:
    """How hard to try. `strengths` are multiples of what the marker was calibrated to.

    A rung whose mark is louder than `least_si_snr_db` (scale-invariant signal-to-noise ratio of the marked over the
    unmarked sound, Le Roux et al. 2019) is too audible to be served, whatever it would achieve.
    """

    strengths: tuple[float, ...] = (1.0, 1.25, 1.6, 2.0, 2.8)
    least_si_snr_db: float = 10.0


LADDER = Ladder()

SURE = 1e-6
"""Bound on the probability that another's mark would read like this, below which an identity counts as read."""
CLEAR = 15.0
"""Score from which a mark that is there says whose it is. One that does not say so by then may accuse another output:
half of the tiles show that a mark is there, half whose, so a score this high goes with a doubt far below `SURE`."""


class Found(Protocol):
    """What a marker says about a sound."""

    @property
    def found(self) -> bool:
        """Whether the mark is there, by the marker's own threshold."""

    @property
    def score(self) -> float:
        """How sure the marker is: -log10 of the probability that an unmarked sound would look like this."""

    @property
    def reading(self) -> Any:  # noqa: ANN401 - the marker's own; nothing here looks into it
        """What the operator's own mark says; None where only the public mark was found, which anybody can make."""


class Marker(Protocol):
    """What this needs of `vivavoce.watermark.Marker`. Named so, an API host can import the door without torch."""

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        """Put the marks of an identity into a sound."""

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Found:
        """Look for a mark; without `search`, only for one that nobody has sped up, stretched or pitched."""

    def doubt(self, reading: Any, identity: int) -> float:  # noqa: ANN401 - as above
        """Bound the probability that the mark of another identity would be read like this."""


@dataclass(frozen=True)
class Labels:
    """What a file says about its origin."""

    model_id: str
    assurance: str
    """How the speaker's consent was established."""
    created_at: datetime
    input_sha256: str | None = None
    """For a conversion, digest (hex) of the recording that is converted."""


@final
@dataclass(frozen=True)
class Marked(OnlyHere):
    """A file in which the mark was found, byte for byte as it will be served. Made by `prepare` alone."""

    output_id: str
    data: bytes = field(repr=False)
    manifest: bytes | None = field(repr=False)
    """The C2PA manifest that goes with the file, where the file itself cannot carry it."""
    format: Format
    media_type: str
    sha256: str
    sample_rate: int
    seconds: float
    identity: int
    identity_read: bool
    """Whether the mark in the file says that it is this identity's, beside being there."""
    score: float
    strength: float
    si_snr_db: float
    labels: Labels
    made_by: InitVar[object]


def prepare(
    wave: Samples,
    sample_rate: int,
    format: Format,  # noqa: A002 - the API's own word
    output_id: str,
    *,
    marker: Marker,
    keyring: KeyRing,
    credential: Credential,
    labels: Labels,
    ladder: Ladder = LADDER,
) -> Marked:
    """Mark, encode, label and sign a sound, and find mark and manifest in the resulting file.

    It climbs the ladder until the mark is found and its identity read. Where no rung makes the identity readable, the
    quietest on which the mark was found is released: presence is what is promised; `identity_read` says the rest.
    Finding alone counts for nothing, though, where the detector finds a mark in the unmarked sound as well.

    Args:
        wave: float32[samples], mono, in [-1, 1].

    Raises:
        ReleaseRefused: mark_not_found, or nothing_to_release.
        MarkError: too_short or silent: the sound cannot carry a mark; or the marker itself failed. Nothing falls back
            to an unmarked sound.
        ProvenanceError: It could not be signed. Nothing falls back to an unsigned one.
    """
    if wave.ndim != 1 or not len(wave) or not np.isfinite(wave).all():
        raise ReleaseRefused("nothing_to_release", "the model gave no sound, or one that is not finite")
    identity = mark_identity(keyring, output_id)
    origin = Origin(
        output_id=output_id,
        created_at=labels.created_at,
        model_id=labels.model_id,
        assurance=labels.assurance,
        binding=bind_mark(keyring.mark_key, identity),
        input_sha256=labels.input_sha256,
    )
    best: Marked | None = None
    telling = cache(lambda: not _found_unmarked(wave, sample_rate, format, marker))
    for strength in ladder.strengths:
        samples = marker.embed(wave, sample_rate, identity, strength)
        quiet = si_snr_db(wave, samples)
        if quiet < ladder.least_si_snr_db:
            break
        labelled = tag(encode(samples, sample_rate, format), format, origin.tags())
        signed = sign(labelled, MEDIA_TYPES[format], origin, credential)
        served = _decode(signed.data, format)
        seen = marker.detect(served.samples, served.sample_rate, search=False)
        read = _is_read(seen, identity, marker)
        if read or (best is None and _is_there(seen) and telling()):
            best = _marked(output_id, signed, format, served, seen.score, identity, read, strength, quiet, labels)
        if read:
            break
    if best is None:
        raise ReleaseRefused("mark_not_found", f"the mark was not found again in the {format} file; nothing leaves")
    return best


def mark_identity(keyring: KeyRing, output_id: str) -> int:
    """Derive what an output's mark says: the first 48 bits of HMAC-SHA256 under the mark key.

    Without the key nobody can tell which output it is. The registry refuses to hold one twice.
    """
    code = hmac.new(keyring.mark_key, output_id.encode(), hashlib.sha256).digest()
    return int.from_bytes(code[:_IDENTITY_BYTES], "big")


def si_snr_db(clean: Samples, marked: Samples) -> float:
    """Scale-invariant signal-to-noise ratio in dB: how far the mark lies below the sound; infinite without one."""
    reference, estimate = clean.astype(np.float64), marked.astype(np.float64)
    energy = float(reference @ reference)
    projected = (float(estimate @ reference) / energy if energy else 0.0) * reference
    signal, noise = float(projected @ projected), float(((estimate - projected) ** 2).sum())
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def _is_read(seen: Found, identity: int, marker: Marker) -> bool:
    return seen.found and seen.reading is not None and marker.doubt(seen.reading, identity) <= SURE


def _is_there(seen: Found) -> bool:
    """Whether the operator's own mark is there, too weak to say whose it is and so unable to accuse anybody."""
    return seen.found and seen.reading is not None and seen.score < CLEAR


def _found_unmarked(wave: Samples, sample_rate: int, format: Format, marker: Marker) -> bool:  # noqa: A002
    """Whether the detector sees a mark where there is none. The unmarked file does not get out of here."""
    unmarked = _decode(encode(wave, sample_rate, format), format)
    return marker.detect(unmarked.samples, unmarked.sample_rate, search=False).found


def _marked(
    output_id: str,
    signed: Signed,
    format: Format,  # noqa: A002
    served: Sound,
    score: float,
    identity: int,
    identity_read: bool,
    strength: float,
    quiet: float,
    labels: Labels,
) -> Marked:
    return Marked(
        output_id=output_id,
        data=signed.data,
        manifest=signed.sidecar,
        format=format,
        media_type=MEDIA_TYPES[format],
        sha256=hashlib.sha256(signed.data).hexdigest(),
        sample_rate=served.sample_rate,
        seconds=served.seconds,
        identity=identity,
        identity_read=identity_read,
        score=score,
        strength=strength,
        si_snr_db=quiet,
        labels=labels,
        made_by=TOKEN,
    )


def _decode(data: bytes, format: Format) -> Sound:  # noqa: A002
    if format != "pcm":
        return decode(data, max_seconds=float("inf"))
    # Raw PCM has no header: what a client is told about it (16 bit little-endian, 24 kHz, mono) is all there is.
    samples = np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_PCM_FULL_SCALE)
    return Sound(samples, SPEECH_RATE, 1)

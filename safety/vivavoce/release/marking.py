"""From model audio to a marked file: disclose, mark, encode, label, sign, then find the mark in that very file.

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
from vivavoce.release.disclosure import disclosure
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


class MarkStream(Protocol):
    """What a marker marks a sound with that is still being made."""

    def feed(self, samples: Samples) -> Samples:
        """Take samples; returns those that are marked, in order."""

    def finish(self) -> Samples:
        """Return the rest."""


class Marker(Protocol):
    """What this needs of `vivavoce.watermark.Marker`. Named so, an API host can import the door without torch."""

    def require(self, samples: Samples, sample_rate: int) -> None:
        """Raise `MarkError` for a sound that cannot carry a mark."""

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        """Put the marks of an identity into a sound."""

    def stream(self, sample_rate: int, identity: int, strength: float) -> MarkStream:
        """Begin to put the marks of an identity into a sound that is still being made."""

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
    disclosure: str | None = None
    """Language (ISO 639-1) in which the sound begins by saying that it is artificial; None where it does not."""


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
    marker.require(wave, sample_rate)  # by itself: the words before it must not carry the mark for it
    identity = mark_identity(keyring, output_id)
    origin = origin_of(output_id, identity, keyring, labels)
    opening = disclosure(labels.disclosure, sample_rate)
    best = _Making(wave, opening, sample_rate, format, identity, origin, marker, credential, labels).best(ladder)
    if best is None:
        raise ReleaseRefused("mark_not_found", f"the mark was not found again in the {format} file; nothing leaves")
    return best


@dataclass(frozen=True)
class _Making:
    """One sound on its way into a file."""

    wave: Samples
    opening: Samples
    """What is said before it; may be nothing."""
    sample_rate: int
    format: Format
    identity: int
    origin: Origin
    marker: Marker
    credential: Credential
    labels: Labels

    def best(self, ladder: Ladder) -> Marked | None:
        """Climb until the mark is found and its identity read; the quietest on which it was found else."""
        best: Marked | None = None
        telling = cache(lambda: not self._look(encode(self.wave, self.sample_rate, self.format), 0.0).found)
        for strength in ladder.strengths:
            # One mark through both, so that nobody finds two sounds joined.
            whole = np.concatenate((self.opening, self.wave))
            samples = self.marker.embed(whole, self.sample_rate, self.identity, strength)
            quiet = si_snr_db(self.wave, samples[len(self.opening) :])
            if quiet < ladder.least_si_snr_db:
                break
            labelled = tag(encode(samples, self.sample_rate, self.format), self.format, self.origin.tags())
            signed = sign(labelled, MEDIA_TYPES[self.format], self.origin, self.credential)
            seen = self._look(signed.data, len(self.opening) / self.sample_rate)
            read = is_read(seen, self.identity, self.marker)
            if read or (best is None and _is_there(seen) and telling()):
                best = self._marked(signed, seen.score, read, strength, quiet)
            if read:
                break
        return best

    def _look(self, data: bytes, lead: float) -> Found:
        """Look for a mark in a file behind its first `lead` seconds: a disclosure cut off takes no mark with it."""
        served = decoded(data, self.format)
        return self.marker.detect(served.samples[round(lead * served.sample_rate) :], served.sample_rate, search=False)

    def _marked(self, signed: Signed, score: float, read: bool, strength: float, quiet: float) -> Marked:
        served = decoded(signed.data, self.format)
        return Marked(
            output_id=self.origin.output_id,
            data=signed.data,
            manifest=signed.sidecar,
            format=self.format,
            media_type=MEDIA_TYPES[self.format],
            sha256=hashlib.sha256(signed.data).hexdigest(),
            sample_rate=served.sample_rate,
            seconds=served.seconds,
            identity=self.identity,
            identity_read=read,
            score=score,
            strength=strength,
            si_snr_db=quiet,
            labels=self.labels,
            made_by=TOKEN,
        )


def origin_of(output_id: str, identity: int, keyring: KeyRing, labels: Labels) -> Origin:
    """What tags and manifest say of a sound."""
    return Origin(
        output_id=output_id,
        created_at=labels.created_at,
        model_id=labels.model_id,
        assurance=labels.assurance,
        binding=bind_mark(keyring.mark_key, identity),
        input_sha256=labels.input_sha256,
    )


def mark_identity(keyring: KeyRing, output_id: str) -> int:
    """Derive what an output's mark says: the first 48 bits of HMAC-SHA256 under the mark key.

    Without the key nobody can tell which output it is. The registry refuses to hold one twice.
    """
    code = hmac.new(keyring.mark_key, output_id.encode(), hashlib.sha256).digest()
    return int.from_bytes(code[:_IDENTITY_BYTES], "big")


class SiSnr:
    """Scale-invariant signal-to-noise ratio (Le Roux et al. 2019) of a mark under a sound that comes in pieces."""

    def __init__(self) -> None:
        self._reference = self._product = self._estimate = 0.0

    def add(self, clean: Samples, marked: Samples) -> None:
        """Take float32[n] more of both."""
        reference, estimate = clean.astype(np.float64), marked.astype(np.float64)
        self._reference += float(reference @ reference)
        self._product += float(reference @ estimate)
        self._estimate += float(estimate @ estimate)

    def db(self) -> float:
        """In dB; infinite without a mark."""
        signal = self._product * (self._product / self._reference) if self._reference else 0.0
        noise = self._estimate - signal
        if noise <= 0.0:
            return float("inf")
        return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def si_snr_db(clean: Samples, marked: Samples) -> float:
    """`SiSnr` of a sound that is whole."""
    ratio = SiSnr()
    ratio.add(clean, marked)
    return ratio.db()


def is_read(seen: Found, identity: int, marker: Marker) -> bool:
    """Whether a mark was found that says it is this identity's."""
    return seen.found and seen.reading is not None and marker.doubt(seen.reading, identity) <= SURE


def _is_there(seen: Found) -> bool:
    """Whether the operator's own mark is there, too weak to say whose it is and so unable to accuse anybody."""
    return seen.found and seen.reading is not None and seen.score < CLEAR


def decoded(data: bytes, format: Format, *, unfinished: bool = False) -> Sound:  # noqa: A002
    """A file as its listeners hear it; one that is unfinished as far as it goes."""
    if format != "pcm":
        return decode(data, max_seconds=float("inf"), unfinished=unfinished)
    # Raw PCM has no header: what a client is told about it (16 bit little-endian, 24 kHz, mono) is all there is.
    samples = np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_PCM_FULL_SCALE)
    return Sound(samples, SPEECH_RATE, 1)

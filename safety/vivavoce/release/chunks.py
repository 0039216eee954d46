"""A sound marked and written while it is still being made: no chunk of it leaves before its mark was found and read.

marker = ChunkMarker(24000, "mp3", output_id, marker=..., keyring=..., labels=...)
chunk = marker.feed(samples)   # None while nothing more can be proved
marked, last = marker.finish(credential)

What is looked at is what leaves: the bytes so far are decoded again, and the mark must say that it is this output's in
the stretch that ends with the new chunk, and, where the sound begins with a disclosure, behind it. A sound that is
streamed cannot be made again with a stronger mark: it is marked a little more strongly from the start, and ends where
that is not enough. Its manifest cannot be in a file that has left before it was whole, and lies beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass, field
from typing import final

import numpy as np

from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import Credential, sign_beside
from vivavoce.release.disclosure import disclosure
from vivavoce.release.errors import ReleaseRefused
from vivavoce.release.marking import (
    LADDER,
    Labels,
    Marked,
    Marker,
    SiSnr,
    decoded,
    is_read,
    mark_identity,
    origin_of,
)
from vivavoce.release.sealed import TOKEN, OnlyHere
from vivavoce.sound import MEDIA_TYPES, Format, Samples
from vivavoce.sound.chunked import ChunkEncoder

STREAM_STRENGTH = 1.25
"""Multiple of what the marker was calibrated to: the ladder's second rung, since there is no second try."""
FIRST_SECONDS = 0.4
"""Sound in the first chunk, for somebody waits for it ..."""
CHUNK_SECONDS = 0.9
"""... and in each one after it: looking for the mark takes time."""
LOOKED_AT = (2.5, 8.0)
"""Seconds before a chunk's end in which its mark must be read; the longer one where pauses leave too little to read."""
LEAST_VOICE_SECONDS = 0.75
"""Of the voice behind a disclosure, before any of it leaves."""
PATIENCE_SECONDS = 4.0
"""Sound that is held back for the mark to become readable, before it is given up."""


@final
@dataclass(frozen=True)
class MarkedChunk(OnlyHere):
    """The next bytes of a file, whose mark was found and read in what they decode to. Made by `ChunkMarker` alone.

    Attributes:
        number: From 0.
        seconds: Sound that it adds.
    """

    output_id: str
    number: int
    data: bytes = field(repr=False)
    seconds: float
    made_by: InitVar[object]


class ChunkMarker:
    """Marks, writes and proves one sound as it comes. Not for several threads.

    Args:
        sample_rate: Hz of what is fed.
        format: Of the file.
        output_id: What the mark will name.
        marker, keyring, labels: As for `prepare`.
    """

    def __init__(
        self, sample_rate: int, format: Format, output_id: str, *, marker: Marker, keyring: KeyRing, labels: Labels  # noqa: A002
    ) -> None:  # fmt: skip
        self.output_id, self.format, self.labels = output_id, format, labels
        self.identity = mark_identity(keyring, output_id)
        self._marker = marker
        self._origin = origin_of(output_id, self.identity, keyring, labels)
        self._stream = marker.stream(sample_rate, self.identity, STREAM_STRENGTH)
        self._encoder = ChunkEncoder(sample_rate, format, self._origin.tags())
        self._rate, self._quiet = sample_rate, SiSnr()
        self._data: list[bytes] = []
        self._ends: list[float] = []
        """Seconds of sound up to the end of each chunk that was made."""
        self._waiting, self._seconds, self._looked = b"", 0.0, 0.0
        opening = disclosure(labels.disclosure, sample_rate)
        self._lead = len(opening) / sample_rate
        self._clean = np.zeros(0, dtype=np.float32)
        self._take(opening, self._stream.feed(opening))

    def feed(self, samples: Samples) -> MarkedChunk | None:
        """Take float32[n] more, mono, in [-1, 1]; gives the next chunk, if there is enough for one.

        Raises:
            ReleaseRefused: mark_not_found, or mark_too_loud: no chunk may follow those given.
            MarkError: The marker failed.
        """
        self._take(samples, self._stream.feed(samples))
        wanted = CHUNK_SECONDS if self._ends else FIRST_SECONDS
        begun = max(self._looked, self._ends[-1] if self._ends else 0.0)
        if self._seconds - begun < wanted or self._lead < self._seconds < self._lead + LEAST_VOICE_SECONDS:
            return None
        return self._prove()

    def finish(self, credential: Credential) -> tuple[Marked, MarkedChunk]:
        """End the sound: the whole file, proved as a whole and signed, and its last chunk.

        Raises:
            ReleaseRefused: mark_not_found, mark_too_loud, nothing_to_release.
            ProvenanceError: It could not be signed.
        """
        self._take(np.zeros(0, dtype=np.float32), self._stream.finish())
        if self._seconds <= self._lead:
            raise ReleaseRefused("nothing_to_release", "the model gave no sound")
        self._waiting += self._encoder.finish()
        data = b"".join([*self._data, self._waiting])
        served = decoded(data, self.format)
        seen = self._marker.detect(
            served.samples[round(self._lead * served.sample_rate) :], served.sample_rate, search=False
        )
        if not is_read(seen, self.identity, self._marker):
            raise self._unproved()
        signed = sign_beside(data, MEDIA_TYPES[self.format], self._origin, credential)
        marked = Marked(
            output_id=self.output_id,
            data=data,
            manifest=signed.sidecar,
            format=self.format,
            media_type=MEDIA_TYPES[self.format],
            sha256=hashlib.sha256(data).hexdigest(),
            sample_rate=served.sample_rate,
            seconds=served.seconds,
            identity=self.identity,
            identity_read=True,
            score=seen.score,
            strength=STREAM_STRENGTH,
            si_snr_db=self._quiet.db(),
            labels=self.labels,
            made_by=TOKEN,
        )
        return marked, self._chunk()

    def _take(self, clean: Samples, marked: Samples) -> None:
        self._clean = np.concatenate([self._clean, clean])
        same, self._clean = self._clean[: len(marked)], self._clean[len(marked) :]
        self._quiet.add(same, marked)
        self._waiting += self._encoder.feed(marked)
        self._seconds += len(marked) / self._rate

    def _prove(self) -> MarkedChunk | None:
        if self._quiet.db() < LADDER.least_si_snr_db:
            raise ReleaseRefused("mark_too_loud", "the mark would be too loud to be borne; nothing more leaves")
        if any(self._is_read(seconds) for seconds in LOOKED_AT):
            return self._chunk()
        self._looked = self._seconds
        if self._seconds - (self._ends[-1] if self._ends else 0.0) > PATIENCE_SECONDS:
            raise self._unproved()
        return None

    def _is_read(self, seconds: float) -> bool:
        """Whether the mark is read in the last seconds of what this chunk ends, behind the disclosure."""
        begin = self._seconds - seconds
        kept = sum(end <= begin for end in self._ends)  # chunks that end before it
        tail = b"".join([*self._data[kept:], self._waiting])
        if kept:
            tail = self._encoder.header + tail
        served = decoded(tail, self.format, unfinished=True)
        first = self._ends[kept - 1] if kept else 0.0
        # A voice without its disclosure must carry the mark too; the disclosure alone is looked at while it is spoken.
        from_ = max(begin, self._lead if self._seconds > self._lead else 0.0) - first
        part = served.samples[max(0, round(from_ * served.sample_rate)) :]
        return is_read(self._marker.detect(part, served.sample_rate, search=False), self.identity, self._marker)

    def _chunk(self) -> MarkedChunk:
        data, self._waiting = self._waiting, b""
        begun = self._ends[-1] if self._ends else 0.0
        self._data.append(data)
        self._ends.append(self._seconds)
        return MarkedChunk(self.output_id, len(self._data) - 1, data, self._seconds - begun, made_by=TOKEN)

    def _unproved(self) -> ReleaseRefused:
        return ReleaseRefused(
            "mark_not_found", f"the mark was not read again in the {self.format} stream; nothing more leaves"
        )

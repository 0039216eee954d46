"""What one job measures: quality of a marked clip, detection after an edit, or where a spliced-in mark is seen."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from benchmarks.marks.clips import CLIP_SECONDS, Clip
from benchmarks.marks.edits import EDITS, Edit
from benchmarks.marks.plan import REGISTERED, UNMARKED_TEN_EVERY, Job, Plan, Row, generator
from benchmarks.marks.quality import quality
from benchmarks.marks.registry import Registry, decoded_bits, named
from benchmarks.marks.speed import speed
from benchmarks.marks.splices import splice_rows
from benchmarks.marks.systems import OURS, SECRET, Look, Ours, System, systems
from vivavoce.sound import SPEECH_RATE, Samples
from vivavoce.watermark import Reading

SPEECH_DB = -10.0  # a cut has to be louder than its clip less 10 dB, or it is drawn again: a pause says nothing
DRAWS = 50
EDIT = {edit.name: edit for edit in EDITS}


@dataclass(frozen=True)
class Seen:
    """One look at one edited clip, for the records.

    Attributes:
        code_bits: Share of the code bits heard that are right; 0.5 where none were heard; None where there are none.
        bits: The same for the 48 bits of the identity, after decoding.
        resolved: "own", "wrong" or "none" of the registered identities; None where there are no bits.
    """

    system: str
    marked: bool
    clip: str
    edit: str
    seconds: int
    score: float
    found: bool
    verdict: str
    code_bits: float | None
    bits: float | None
    resolved: str | None


class Bench:
    """One process's systems, and the clips that it marked already."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._systems = systems(plan.systems, plan.weights)

    def run(self, job: Job) -> list[Row]:
        """Rows for the records."""
        clip = self._plan.clips[job.clip]
        if job.kind == "speed":
            return [asdict(speed(system, self._plan.clips)) for system in self._systems]
        if job.kind == "quality":
            return [self._quality(system, clip) for system in self._systems]
        if job.kind == "edit":
            return self._edit(job, clip)
        other = next(c for c in (*self._plan.clips[job.clip :], *self._plan.clips) if c.speaker != clip.speaker)
        ours = next(system for system in self._systems if isinstance(system, Ours))
        host, guest = ((one, self.marked(ours, one)) for one in (clip, other))

        def who(reading: Reading) -> int | None:
            return self._registry.whose(reading, [identity_of(clip), identity_of(other)])

        return splice_rows(ours, EDIT[job.edit], host, guest, who)

    def marked(self, system: System, clip: Clip) -> Samples:
        """The marked clip, made once for all processes and jobs."""
        path = self._plan.folder / f"{system.name}-{clip.name}.npy"
        if not path.exists():
            made = system.embed(clip.samples, identity_of(clip))
            part = path.with_suffix(f".{time.monotonic_ns()}.part")
            with part.open("wb") as file:
                np.save(file, made.astype(np.float32))
            part.replace(path)
        return np.asarray(np.load(path))

    def _quality(self, system: System, clip: Clip) -> Row:
        return {"system": system.name, "clip": clip.name, **quality(clip.samples, self.marked(system, clip))}

    def _edit(self, job: Job, clip: Clip) -> list[Row]:
        edit = EDIT[job.edit]
        rows = self._looks(None, clip.samples, edit, clip, self._unmarked_lengths(job, edit))
        for system in self._systems:
            rows += self._looks(system, self.marked(system, clip), edit, clip, edit.lengths)
        return rows

    @staticmethod
    def _unmarked_lengths(job: Job, edit: Edit) -> tuple[int, ...]:
        if (job.clip + EDITS.index(edit)) % UNMARKED_TEN_EVERY == 0:
            return edit.lengths
        return tuple(seconds for seconds in edit.lengths if seconds != CLIP_SECONDS)

    def _looks(
        self, marker: System | None, samples: Samples, edit: Edit, clip: Clip, lengths: tuple[int, ...]
    ) -> list[Row]:
        """Looks of the system that marked the sound, or of all systems where none did."""
        sound, rate = edit.process(samples, generator(clip.name, edit.name))
        rows = []
        for seconds in lengths:
            size = int(seconds * rate)
            first = place_of(clip, edit.name, seconds) * (len(sound) - size) if seconds < CLIP_SECONDS else 0
            heard = sound[int(first) : int(first) + size] if seconds < CLIP_SECONDS else sound
            for system in [marker] if marker else self._systems:
                look = system.look(heard, rate)
                rows.append(asdict(self._seen(system.name, look, marker is not None, clip, edit.name, seconds)))
        return rows

    def _seen(self, system: str, look: Look, marked: bool, clip: Clip, edit: str, seconds: int) -> Seen:
        code_bits, bits, resolved = None, None, None
        if system == OURS:
            own = identity_of(clip) if marked else None
            resolution = self._registry.resolve(look.reading, own)
            resolved = named(resolution, own)
            if own is not None:
                code_bits = self._registry.right_code_bits(look.reading, own)
                bits = decoded_bits(resolution, own)
        about = (system, marked, clip.name, edit, seconds)
        return Seen(*about, look.score, look.found, look.verdict, code_bits, bits, resolved)

    @cached_property
    def _registry(self) -> Registry:
        return Registry(SECRET, REGISTERED)


def identity_of(clip: Clip) -> int:
    """The identity that a clip is marked with."""
    return int(generator("identity", clip.name).integers(0, 2**48))


def place_of(clip: Clip, edit: str, seconds: int) -> float:
    """Where in the edited clip the cut begins, as a share of where it can: a random place with speech in it."""
    rng = generator("cut", clip.name, edit, seconds)
    size = seconds * SPEECH_RATE
    enough = float(clip.samples.std()) * 10 ** (SPEECH_DB / 20)
    place = 0.0
    for _ in range(DRAWS):
        place = float(rng.random())
        first = int(place * (len(clip.samples) - size))
        if float(clip.samples[first : first + size].std()) >= enough:
            break
    return place

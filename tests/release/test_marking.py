"""No mark, no sound: the mark is found in the very bytes that are served, or nothing leaves."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.provenance.authority import credential
from tests.release.desk import LABELS, PRESENCE, SPOKEN, Finding, QuickMarker

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyFile, KeyRing
from vivavoce.release.door import Marked, ReleaseRefused, mark_identity, prepare
from vivavoce.release.marking import CLEAR, LADDER, SURE, Ladder, Marker, si_snr_db
from vivavoce.sound import FORMATS, Format, Samples

PLAIN = replace(LABELS, disclosure=None)


def through(keyring: KeyRing, marker: Marker, format: Format = "wav", **changes: Any) -> Marked:  # noqa: A002
    asked: dict[str, Any] = {"wave": SPOKEN.samples, "sample_rate": SPOKEN.sample_rate, "output_id": new_id("out")}
    return prepare(
        **asked | changes | {"format": format}, marker=marker, keyring=keyring, credential=credential(), labels=PLAIN
    )


def refusal(keyring: KeyRing, marker: Marker, format: Format = "wav", **changes: Any) -> str:  # noqa: A002
    with pytest.raises(ReleaseRefused) as caught:
        through(keyring, marker, format, **changes)
    return caught.value.code


class Counting(QuickMarker):
    """Writes down how hard it was asked to try."""

    def __init__(self) -> None:
        self.strengths: list[float] = []

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        self.strengths.append(strength)
        return super().embed(samples, sample_rate, identity, strength)


class Blind(Counting):
    """A detector that finds nothing, as one with broken weights."""

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        return super().detect(np.zeros_like(samples), sample_rate, search=search)


class Forgetful(Counting):
    """An embedder that gives back the sound as it was."""

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        super().embed(samples, sample_rate, identity, strength)
        return samples


class Whispering(QuickMarker):
    """A mark below the last bit of a 16-bit file: there in memory, gone in what is served."""

    level = 2e-6

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        # Knows the original, and so finds the least trace of a mark in memory.
        rest = samples.astype(np.float64)[: len(SPOKEN.samples)] - SPOKEN.samples
        z = float(rest @ self._noise(PRESENCE, len(rest))) / (np.linalg.norm(rest) + 1e-12)
        return Finding(z > 6, z**2 / 2, np.diff(rest))


class Hesitant(Counting):
    """Finds only what is marked twice as strongly as usual."""

    threshold = 0.0

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        seen = super().detect(samples, sample_rate, search=search)
        return replace(seen, found=self.strengths[-1] >= 1.6)


class Confused(Counting):
    """Marks with another output's identity."""

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float) -> Samples:
        return super().embed(samples, sample_rate, identity ^ 1, strength)


class Mumbling(Counting):
    """Finds the mark, and is not sure whose it is below a strength of `clear_from`."""

    clear_from = 99.0

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        clear = super().detect(samples, sample_rate, search=search)
        return clear if self.strengths[-1] >= self.clear_from else replace(clear, score=min(clear.score, CLEAR - 1))

    def doubt(self, reading: Any, identity: int) -> float:
        return super().doubt(reading, identity) if self.strengths[-1] >= self.clear_from else 2 * SURE


class Clearing(Mumbling):
    """As before, and reads rightly what is marked a little more strongly."""

    clear_from = 1.25


class YesSaying(Counting):
    """A detector that sees a mark everywhere, as one that was taught on loud marks only."""

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        return Finding(found=True, score=8.0, reading=np.ones(8))

    def doubt(self, reading: Any, identity: int) -> float:
        return 1.0


class PublicOnly(Counting):
    """Finds the public mark alone, which anybody can make."""

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        return replace(super().detect(samples, sample_rate, search=search), reading=None)


class Broken(QuickMarker):
    """Fails while it works."""

    def detect(self, samples: Samples, sample_rate: int, *, search: bool) -> Finding:
        raise RuntimeError("out of memory")


def test_what_passes_carries_its_own_mark(keyring: KeyRing) -> None:
    output_id = new_id("out")
    marked = through(keyring, QuickMarker(), output_id=output_id)
    assert marked.identity == mark_identity(keyring, output_id)
    assert (marked.identity_read, marked.strength, marked.format) == (True, 1.0, "wav")
    assert marked.sha256 == hashlib.sha256(marked.data).hexdigest()
    assert marked.score > QuickMarker.threshold
    assert marked.seconds == pytest.approx(SPOKEN.seconds, abs=0.01)
    assert not QuickMarker().detect(SPOKEN.samples, SPOKEN.sample_rate, search=False).found


@pytest.mark.parametrize("broken", [Blind, Forgetful, Confused, PublicOnly])
def test_not_found_it_is_tried_harder_and_then_refused(keyring: KeyRing, broken: type[Counting]) -> None:
    """Whoever is at fault (detector, embedder, a mark that accuses another output, or one that anybody can make),
    nothing leaves."""
    marker = broken()
    assert refusal(keyring, marker) == "mark_not_found"
    assert marker.strengths == list(LADDER.strengths)


def test_a_mark_that_encoding_removes_is_not_believed(keyring: KeyRing) -> None:
    """Looking at the samples in memory would find it; the served file has none."""
    marker = Whispering()
    in_memory = SPOKEN.samples.astype(np.float64) + 1e-7 * marker._noise(PRESENCE, len(SPOKEN.samples))
    assert marker.detect(in_memory, SPOKEN.sample_rate, search=False).found
    for format in ("wav", "flac", "pcm"):  # noqa: A001
        assert refusal(keyring, marker, format) == "mark_not_found"


def test_found_at_last_it_is_released_with_that_strength(keyring: KeyRing) -> None:
    marker = Hesitant()
    assert through(keyring, marker).strength == 1.6
    assert marker.strengths == [1.0, 1.25, 1.6]


def test_too_loud_a_mark_is_not_served_whatever_it_achieves(keyring: KeyRing) -> None:
    """The ladder ends where the mark would be heard."""
    marker, once = Hesitant(), Counting()
    clean = through(keyring, once)
    limit = Ladder(least_si_snr_db=clean.si_snr_db - 1)
    assert refusal(keyring, marker, ladder=limit) == "mark_not_found"
    assert marker.strengths == [1.0, 1.25]
    assert refusal(keyring, Counting(), ladder=Ladder(least_si_snr_db=clean.si_snr_db + 1)) == "mark_not_found"


def test_a_detector_that_always_says_yes_proves_nothing(keyring: KeyRing) -> None:
    marker = YesSaying()
    assert refusal(keyring, marker) == "mark_not_found"
    assert marker.strengths == list(LADDER.strengths)


def test_the_identity_is_worth_climbing_for(keyring: KeyRing) -> None:
    marker = Clearing()
    marked = through(keyring, marker)
    assert (marked.identity_read, marked.strength, marker.strengths) == (True, 1.25, [1.0, 1.25])


def test_a_mark_whose_identity_is_not_readable_still_says_ours(keyring: KeyRing) -> None:
    """It accuses nobody; the quietest is taken, and output and log say that the identity was not read."""
    marker = Mumbling()
    marked = through(keyring, marker)
    assert (marked.identity_read, marked.strength) == (False, 1.0)
    assert marker.strengths == list(LADDER.strengths)


def test_a_marker_that_fails_stops_everything(keyring: KeyRing) -> None:
    with pytest.raises(RuntimeError):
        through(keyring, Broken())


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, np.float32),
        np.full(16000, np.nan, np.float32),
        np.append(SPOKEN.samples, np.float32(np.inf)),
        np.zeros((2, 16000), np.float32),
    ],
)
def test_what_is_no_sound_is_not_released(keyring: KeyRing, wave: np.ndarray) -> None:
    assert refusal(keyring, QuickMarker(), wave=wave) == "nothing_to_release"


def test_silence_carries_no_mark_and_is_refused(keyring: KeyRing) -> None:
    assert refusal(keyring, QuickMarker(), wave=np.zeros(48000, np.float32)) == "mark_not_found"


def test_there_is_no_way_around_the_mark() -> None:
    """No parameter and no default of `prepare` leads to an unmarked or an unsigned file."""
    parameters = inspect.signature(prepare).parameters
    assert list(parameters) == [
        "wave", "sample_rate", "format", "output_id", "marker", "keyring", "credential", "labels", "ladder",
    ]  # fmt: skip
    assert parameters["marker"].default is inspect.Parameter.empty
    assert parameters["credential"].default is inspect.Parameter.empty
    with pytest.raises(TypeError):
        prepare(SPOKEN.samples, 16000, "wav", "out_1", labels=PLAIN)  # type: ignore[call-arg]


def test_an_empty_ladder_releases_nothing(keyring: KeyRing) -> None:
    assert refusal(keyring, QuickMarker(), ladder=Ladder(strengths=())) == "mark_not_found"


def test_identities_come_from_the_key(keyring: KeyRing, tmp_path: Path) -> None:
    """Without the key nobody can tell which identity an output has; with it, always the same."""
    ids = [new_id("out") for _ in range(400)]
    identities = [mark_identity(keyring, output_id) for output_id in ids]
    assert identities == [mark_identity(keyring, output_id) for output_id in ids]
    assert all(0 <= identity < 2**48 for identity in identities)
    assert len(set(identities)) == len(ids)
    other = KeyRing.open(tmp_path / "keys", create=True)
    assert not {mark_identity(other, output_id) for output_id in ids} & set(identities)
    fixed = KeyRing(dict(keyring.files) | {"mark_key": KeyFile(bytes(32))})
    # HMAC-SHA256 under 32 zero bytes over the id, its first 48 bits; by any other implementation.
    assert mark_identity(fixed, "out_0") == int(hashlib_hmac("out_0")[:12], 16)


def hashlib_hmac(text: str) -> str:
    """HMAC by its definition (RFC 2104), in hexadecimal."""
    inner = hashlib.sha256(bytes([0x36] * 64) + text.encode()).digest()
    return hashlib.sha256(bytes([0x5C] * 64) + inner).hexdigest()


def test_loudness_of_the_mark_is_measured_as_defined() -> None:
    clean = np.array([1, -1, 1, -1], np.float32)
    noise = np.array([0.1, 0.1, -0.1, -0.1], np.float32)  # orthogonal, 20 dB below
    assert si_snr_db(clean, clean + noise) == pytest.approx(20, abs=1e-4)
    assert si_snr_db(clean, 0.25 * (clean + noise)) == pytest.approx(20, abs=1e-4)
    assert si_snr_db(clean, clean) == float("inf")
    assert si_snr_db(np.zeros(4, np.float32), noise) == float("-inf")


def test_formats_that_the_quick_marker_survives_say_what_they_are(keyring: KeyRing) -> None:
    """The detector is shown the decoded file, PCM too; the labels are in the file that was looked at."""
    assert set(FORMATS) >= {"wav", "flac", "pcm"}
    for format in ("wav", "flac"):  # noqa: A001
        marked = through(keyring, QuickMarker(), format)
        for word in (marked.output_id, "Vivavoce", "AI-generated", "attested", "2026-11-23T12:00:00Z"):
            assert word.encode() in marked.data

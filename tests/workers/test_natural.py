"""A voice whose recordings we made ourselves makes nothing, also where somebody has edited them before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soxr
from tests.consent import world
from tests.workers.house import SHORT, SPEECH, House

from vivavoce.consent.creation import check_recording
from vivavoce.consent.voices import check_clip
from vivavoce.ledger.tables import JobStatus
from vivavoce.sound import Samples, decode, encode
from vivavoce.workers.jobs import JobRunner


def as_it_is(samples: Samples, rate: int) -> bytes:
    return encode(samples, rate, "wav")


def as_mp3(samples: Samples, rate: int) -> bytes:
    return encode(samples, rate, "mp3")


def sped_up(samples: Samples, rate: int) -> bytes:
    return encode(np.asarray(soxr.resample(samples, 1.05, 1.0), dtype=np.float32), rate, "flac")


@pytest.mark.parametrize("edit", [as_it_is, as_mp3, sped_up])
def test_a_clip_of_our_own_founds_nothing(
    house: House, runner: JobRunner, edit: Callable[[Samples, int], bytes]
) -> None:
    read = decode((SPEECH / "austen-0870.flac").read_bytes())
    marked = runner.host.marker.embed(read.samples, read.sample_rate, identity=5)
    consent_id, _ = house.another_voice()
    voice_id = house.found_voice(consent_id, check_clip(edit(marked, read.sample_rate), ""))
    job_id = house.queue(SHORT, voice_id)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "recording_is_generated")
    again = house.queue(SHORT, voice_id)
    runner.run(again)
    house.check_one_end(again, JobStatus.REFUSED, "recording_is_generated")


@pytest.mark.parametrize("edit", [as_it_is, as_mp3, sped_up])
def test_a_consent_of_our_own_founds_nothing(
    house: House, runner: JobRunner, edit: Callable[[Samples, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = decode((SPEECH / "austen-0890.flac").read_bytes())
    marked = runner.host.marker.embed(read.samples, read.sample_rate, identity=6)
    monkeypatch.setattr(world, "RECORDING", check_recording(edit(marked, read.sample_rate)))
    _, voice_id = house.another_voice()
    job_id = house.queue(SHORT, voice_id)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.REFUSED, "recording_is_generated")

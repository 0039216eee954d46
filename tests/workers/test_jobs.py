"""Jobs that a worker carries out to their good end, alone and together."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile
from tests.consent.world import SPEECH
from tests.workers.house import LONG, SHORT, House, now

from vivavoce.consent import Scope
from vivavoce.ledger.tables import JobKind, JobStatus
from vivavoce.provenance import read_provenance
from vivavoce.release.disclosure import disclosure
from vivavoce.release.door import Released, open_output
from vivavoce.sound import SPEECH_RATE, decode
from vivavoce.workers.jobs import JobRunner

RECORDING = (SPEECH / "austen-0880.flac").read_bytes()


def served(house: House, job_id: str) -> Released:
    output = house.output(job_id)
    assert output is not None
    with house.database.write() as session:
        released = open_output(
            session, house.store, house.keyring, house.log, output.id, output.tenant_id, now(), actor="key_test"
        )
    assert isinstance(released, Released)
    return released


def detection(house: House, runner: JobRunner, sound: bytes) -> str:
    asked = house.submission(None, kind=JobKind.DETECTION, request={}, input=sound, format=None, purpose=None)
    job_id = house.admit(asked, now()).id
    runner.run(job_id)
    return job_id


def test_speech_becomes_a_served_file(house: House, runner: JobRunner) -> None:
    job_id = house.queue(SHORT, format="mp3")
    runner.run(job_id)
    job = house.check_one_end(job_id, JobStatus.SUCCEEDED)
    assert (job.attempt, job.lease_owner) == (1, None)
    output = house.output(job_id)
    assert output is not None
    assert (output.model_id, output.media_type) == (runner.host.model_id, "audio/mpeg")
    sound = decode(served(house, job_id).data)
    assert abs(sound.seconds - output.seconds) < 0.1
    assert abs(sound.samples).max() > 0.001


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0])
def test_speed_changes_the_length_and_not_the_mark(house: House, runner: JobRunner, speed: float) -> None:
    """The same sound in another time: marked after it was stretched, so that the mark is read as it was put in."""
    asked = {"text": LONG, "seed": 5}
    plain, changed = house.queue(request=asked), house.queue(request=asked | {"speed": speed})
    for job_id in (plain, changed):
        runner.run(job_id)
        house.check_one_end(job_id, JobStatus.SUCCEEDED)
    plain_output, output = house.output(plain), house.output(changed)
    assert plain_output is not None and output is not None
    said = len(disclosure("en", SPEECH_RATE)) / SPEECH_RATE  # at its own pace: nobody can have it hurried through
    assert output.seconds - said == pytest.approx((plain_output.seconds - said) / speed, rel=0.01)
    found = house.job(detection(house, runner, served(house, changed).data)).result
    assert found is not None and found["verdict"] == "ours"
    assert found["resolution"]["identity"] == output.mark_identity
    assert found["speed"] == pytest.approx(1.0, abs=0.01), "the mark goes at its own speed"


def test_conversion_speaks_with_the_voice(house: House, runner: JobRunner) -> None:
    job_id = house.queue(kind=JobKind.CONVERSION, request={"seed": 3}, input=RECORDING)
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.SUCCEEDED)
    data = served(house, job_id).data
    assert decode(data).seconds > 0.5
    # Its manifest names the recording by its digest (RFC 6920), and by nothing else.
    digest = base64.urlsafe_b64encode(hashlib.sha256(RECORDING).digest()).rstrip(b"=")
    assert b"ni:///sha-256;" + digest in data
    assert read_provenance(data, runner.host.credential.roots).state == "valid"


def test_detection_tells_ours_from_others(house: House, runner: JobRunner) -> None:
    """Our own file is ours and resolved to its output, the unmarked original is not; the job row names no output, and
    the log not even what was read."""
    job_id = house.queue(LONG)
    runner.run(job_id)
    output = house.output(job_id)
    assert output is not None
    ours = house.check_one_end(detection(house, runner, served(house, job_id).data), JobStatus.SUCCEEDED)
    assert ours.result is not None
    assert (ours.result["verdict"], ours.result["reason"]) == ("ours", "")
    assert ours.result["score"] > ours.result["threshold"]
    resolution = ours.result["resolution"]
    assert resolution["identity"] == output.mark_identity == resolution["candidates"][0]["identity"]
    assert resolution["false_attribution"] <= 1e-6
    manifest = ours.result["c2pa"]
    assert (manifest["state"], manifest["names_the_mark"], manifest["generated"]) == ("valid", True, True)
    assert "out_" not in json.dumps(ours.result)
    (facts,) = house.outcomes(ours.id)
    assert (facts["verdict"], facts["c2pa"]) == ("ours", "valid")
    assert output.mark_identity not in facts.values()
    theirs = house.check_one_end(detection(house, runner, RECORDING), JobStatus.SUCCEEDED).result
    assert theirs is not None
    assert (theirs["verdict"], theirs["resolution"]) == ("not_detected", None)
    assert (theirs["c2pa"]["state"], theirs["c2pa"]["names_the_mark"]) == ("none", None)


def test_one_layer_stripped_the_other_is_still_reported(house: House, runner: JobRunner) -> None:
    job_id = house.queue(LONG)
    runner.run(job_id)
    output, data = house.output(job_id), served(house, job_id).data
    assert output is not None
    sound = decode(data)
    bare = io.BytesIO()
    soundfile.write(bare, sound.samples, sound.sample_rate, format="FLAC")
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    for content, state in ((bare.getvalue(), "none"), (bytes(changed), "invalid")):
        found = house.check_one_end(detection(house, runner, content), JobStatus.SUCCEEDED).result
        assert found is not None
        assert (found["verdict"], found["c2pa"]["state"]) == ("ours", state)
        assert found["resolution"]["identity"] == output.mark_identity
        assert (found["c2pa"]["created_at"], found["c2pa"]["names_the_mark"]) == (None, None)


def test_requests_of_concurrent_jobs_share_a_batch(house: House, runner: JobRunner) -> None:
    """One engine thread takes what several Celery threads ask for into one batch; each gets its own sound."""
    job_ids = [house.queue(LONG, request={"text": LONG, "seed": seed}) for seed in range(3)]
    before = runner.host.engine.rows_peak
    with ThreadPoolExecutor(len(job_ids)) as pool:
        list(pool.map(runner.run, job_ids))
    assert max(before, runner.host.engine.rows_peak) >= 2
    for job_id in job_ids:
        house.check_one_end(job_id, JobStatus.SUCCEEDED)
    assert len({served(house, job_id).sha256 for job_id in job_ids}) == len(job_ids)


def test_two_workers_on_one_job_give_one_outcome(house: House, runner: JobRunner) -> None:
    job_id = house.queue(SHORT)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(runner.run, [job_id] * 4))
    assert house.check_one_end(job_id, JobStatus.SUCCEEDED).attempt == 1


def test_a_consent_for_one_language_holds_up_to_the_end(house: House, runner: JobRunner) -> None:
    """The language that was asked for at admission is asked for again in the worker and at release."""
    _, voice_id = house.another_voice(Scope(languages=("en",)))
    job_id = house.queue(SHORT, voice_id, language="en")
    runner.run(job_id)
    house.check_one_end(job_id, JobStatus.SUCCEEDED)

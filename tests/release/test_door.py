"""The door, on both databases: what passes it is logged, and consent is asked until the very last moment."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from tests.consent.world import NOW, World, on_sqlite
from tests.release.desk import begin, fetch, finish_with, made, mark, put_down

from vivavoce.audit.errors import LogUnavailable
from vivavoce.consent import Scope
from vivavoce.consent.grant import TTL
from vivavoce.ledger.envelope import destroy_subject_key, seal
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import Lease, claim
from vivavoce.ledger.tables import Job, JobStatus, Output, Subject
from vivavoce.release import marking
from vivavoce.release.door import Deposited, Released, ReleaseRefused, Withheld
from vivavoce.release.outcome import finish


@pytest.fixture
def consent(world: World) -> str:
    return world.consent()


@pytest.fixture
def voice(world: World, consent: str) -> str:
    return world.voice(consent)


def refused(world: World, deposited: Deposited, now: datetime = NOW) -> str:
    with pytest.raises(ReleaseRefused) as caught:
        finish_with(world, deposited, now)
    return caught.value.code


def end_as_refused(world: World, lease: Lease, code: str) -> None:
    with world.database.write() as session:
        assert finish(session, world.log, lease, lease.job_id, JobStatus.REFUSED, error_code=code, now=NOW)


def nothing_came_out(world: World, job_id: str) -> None:
    """No row, no success, no word of one in the log."""
    assert world.count("output") == 0
    assert world.job(job_id).status != JobStatus.SUCCEEDED
    assert all(leaf["facts"]["status"] != "succeeded" for leaf in world.leaves("job:outcome"))


def test_a_sound_goes_through_the_door_and_the_log_says_so(world: World, voice: str, consent: str) -> None:
    job, lease = begin(world, voice)
    marked = mark(world.keyring)
    output = finish_with(world, put_down(world, lease, marked))
    assert output is not None
    ended = world.job(job.id)
    assert (ended.status, ended.finished_at, ended.lease_owner) == (JobStatus.SUCCEEDED, NOW, None)
    (leaf,) = world.leaves("job:outcome")
    assert leaf["index"] == ended.outcome_leaf
    assert leaf["actor"] == "worker:worker-1"
    assert leaf["refs"] == {
        "job": job.id,
        "intent": job.intent_leaf,
        "voice": voice,
        "consent": consent,
        "subject": job.subject_id,
        "output": output.id,
    }
    facts = leaf["facts"]
    assert (facts["status"], facts["assurance"], facts["model"]) == ("succeeded", "attested", "test-model")
    assert (facts["sha256"], facts["mark_identity"], facts["mark_identity_read"]) == (
        marked.sha256,
        marked.identity,
        True,
    )
    assert (facts["format"], facts["attempt"], facts["code"]) == ("wav", 1, None)
    assert (facts["mark_strength"], facts["mark_score"]) == (1, round(marked.score, 4))

    released = fetch(world, output.id)
    assert isinstance(released, Released)
    assert (released.data, released.sha256, released.media_type) == (marked.data, marked.sha256, "audio/wav")
    assert released.filename == f"{output.id}.wav"
    (delivery,) = world.leaves("output:deliver")
    assert delivery["refs"]["output"] == output.id
    assert (delivery["facts"], delivery["actor"]) == ({"sha256": marked.sha256}, world.account.key_id)


@on_sqlite
def test_nothing_lies_open_in_the_store(world: World, voice: str) -> None:
    marked = mark(world.keyring)
    output = made(world, voice, marked)
    sealed = world.store.get(output.object_key)
    assert b"RIFF" not in sealed
    assert output.object_key == f"outputs/{output.job_id}/1"


def test_withdrawn_while_it_is_made_it_is_not_released(world: World, voice: str, consent: str) -> None:
    job, lease = begin(world, voice)
    deposited = put_down(world, lease)
    world.revoke(consent)
    assert refused(world, deposited) == "consent_revoked"
    nothing_came_out(world, job.id)
    end_as_refused(world, lease, "consent_revoked")
    nothing_came_out(world, job.id)
    (leaf,) = world.leaves("job:outcome")
    assert (leaf["facts"]["status"], leaf["facts"]["code"]) == ("refused", "consent_revoked")


@on_sqlite
def test_run_out_while_it_is_made_it_is_not_released(world: World) -> None:
    voice = world.voice(world.consent(scope=Scope(lifetime=timedelta(seconds=20))))
    job, lease = begin(world, voice)
    assert refused(world, put_down(world, lease), NOW + timedelta(seconds=20)) == "consent_expired"
    nothing_came_out(world, job.id)


@on_sqlite
def test_work_that_began_in_time_may_be_released_after_the_grants_time(world: World, voice: str) -> None:
    _, lease = begin(world, voice)
    assert finish_with(world, put_down(world, lease), NOW + TTL + timedelta(minutes=5))


@on_sqlite
def test_a_job_that_was_turned_to_another_purpose_is_not_released(world: World, voice: str) -> None:
    job, lease = begin(world, voice)
    deposited = put_down(world, lease)
    with world.database.write() as session:
        session.get_one(Job, job.id).purpose = "advertising"
    assert refused(world, deposited) == "grant_mismatch"
    nothing_came_out(world, job.id)


@on_sqlite
def test_erased_while_it_is_made_nothing_is_kept(world: World, voice: str, consent: str) -> None:
    job, lease = begin(world, voice)
    deposited = put_down(world, lease)
    with world.database.write() as session:
        destroy_subject_key(session.get_one(Subject, job.subject_id), NOW)
    assert refused(world, deposited) == "consent_erased"
    nothing_came_out(world, job.id)


def test_withdrawn_before_the_download_it_is_withheld_for_good(world: World, voice: str, consent: str) -> None:
    """Made under a consent that stood, withdrawn since: the bytes stay, nobody gets them, and the log says why."""
    output = made(world, voice)
    assert isinstance(fetch(world, output.id), Released)
    world.revoke(consent)
    for _ in range(2):
        handed = fetch(world, output.id)
        assert isinstance(handed, Withheld)
        assert (handed.code, handed.output_id) == ("consent_revoked", output.id)
    with world.database.read() as session:
        row = session.get_one(Output, output.id)
        assert (row.withheld_at, row.withheld_reason) == (NOW, "consent_revoked")
    assert [leaf["facts"] for leaf in world.leaves("output:withhold")] == [{"code": "consent_revoked"}] * 2
    assert len(world.leaves("output:deliver")) == 1


@on_sqlite
def test_run_out_before_the_download_it_is_withheld(world: World) -> None:
    voice = world.voice(world.consent(scope=Scope(lifetime=timedelta(days=1))))
    output = made(world, voice)
    assert isinstance(fetch(world, output.id, NOW + timedelta(days=1) - timedelta(seconds=1)), Released)
    handed = fetch(world, output.id, NOW + timedelta(days=1))
    assert isinstance(handed, Withheld)
    assert handed.code == "consent_expired"


@on_sqlite
def test_a_suspension_withholds_only_as_long_as_it_lasts(world: World, voice: str, consent: str) -> None:
    output = made(world, voice)
    world.change(consent, status="suspended")
    handed = fetch(world, output.id)
    assert isinstance(handed, Withheld)
    assert handed.code == "consent_suspended"
    world.change(consent, status="verified")
    assert isinstance(fetch(world, output.id), Released)


@on_sqlite
def test_an_output_that_somebody_withheld_stays_so(world: World, voice: str) -> None:
    output = made(world, voice)
    with world.database.write() as session:
        row = session.get_one(Output, output.id)
        row.withheld_at, row.withheld_reason = NOW, "takedown"
    handed = fetch(world, output.id)
    assert isinstance(handed, Withheld)
    assert handed.code == "takedown"


@on_sqlite
def test_after_erasure_an_output_is_noise(world: World, voice: str) -> None:
    output = made(world, voice)
    with world.database.write() as session:
        destroy_subject_key(session.get_one(Subject, output.subject_id), NOW)
    handed = fetch(world, output.id)
    assert isinstance(handed, Withheld)
    assert handed.code == "consent_erased"


@on_sqlite
def test_a_swapped_file_is_not_served(world: World, voice: str) -> None:
    """Noise, another output of the same voice, and even another sound that was sealed by the book for this place."""
    outputs = [made(world, voice) for _ in range(4)]
    with world.database.read() as session:
        subject = session.get_one(Subject, outputs[0].subject_id)
    sealed = world.store.get(outputs[0].object_key)
    place = f"{outputs[2].object_key}:{outputs[2].id}".encode()
    for output, swapped in (
        (outputs[0], sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (outputs[1], sealed),
        (outputs[2], seal(world.keyring, subject, mark(world.keyring).data, place)),
    ):
        world.store.put(output.object_key, swapped)
        handed = fetch(world, output.id)
        assert isinstance(handed, Withheld)
        assert handed.code == "output_altered"
    world.store.delete(outputs[3].object_key)
    handed = fetch(world, outputs[3].id)
    assert isinstance(handed, Withheld)
    assert handed.code == "output_missing"
    assert len(world.leaves("output:withhold")) == 4
    assert world.leaves("output:deliver") == []


@pytest.mark.parametrize("output_id", ["", "out_1", "\0", "\ud800", "x" * 5000, "../../keys/kek.key"])
def test_an_output_id_from_outside_may_be_anything(small_world: World, output_id: str) -> None:
    with pytest.raises(ReleaseRefused, match="unknown_output"):
        fetch(small_world, output_id)


def test_another_tenants_output_is_unknown(world: World, voice: str) -> None:
    output = made(world, voice)
    before = world.snapshot()
    stranger = world.join("stranger")
    for output_id in (output.id, new_id("out")):
        with pytest.raises(ReleaseRefused, match="unknown_output"):
            fetch(world, output_id, tenant_id=stranger.tenant_id)
    assert world.snapshot() == before


def test_without_a_log_nothing_is_released(world: World, voice: str) -> None:
    """The sound is made, marked and stored, and all for nothing: no outcome leaf, no output."""
    job, lease = begin(world, voice)
    deposited = put_down(world, lease)
    before = world.snapshot()
    world.break_log()
    with pytest.raises(LogUnavailable):
        finish_with(world, deposited)
    assert world.snapshot() == before
    assert world.job(job.id).status == JobStatus.RUNNING


def test_without_a_log_nothing_is_handed_out(world: World, voice: str, consent: str) -> None:
    """What cannot be logged is not delivered; and a withdrawal that cannot be logged as a reason delivers nothing."""
    output = made(world, voice)
    world.change(consent, status="revoked")
    other = made(world, world.voice(world.consent()))
    world.break_log()
    for output_id in (output.id, other.id):
        with pytest.raises(LogUnavailable):
            fetch(world, output_id)
    with world.database.read() as session:
        assert session.get_one(Output, output.id).withheld_at is None


def test_a_worker_that_lost_its_lease_releases_nothing(world: World, voice: str) -> None:
    """It was thought dead, and comes back with a sound after another has begun, and after that one has ended."""
    job, first = begin(world, voice)
    late = NOW + timedelta(minutes=1)
    stale = put_down(world, first)
    with world.database.write() as session:
        second = claim(session, job.id, "worker-2", late, timedelta(seconds=30))
    assert second is not None
    assert finish_with(world, stale, late) is None
    nothing_came_out(world, job.id)
    output = finish_with(world, put_down(world, second), late)
    assert output is not None
    assert finish_with(world, stale, late) is None
    assert (world.count("output"), len(world.leaves("job:outcome"))) == (1, 1)
    assert output.object_key.endswith("/2")


def test_the_same_sound_is_not_committed_twice(world: World, voice: str) -> None:
    _, lease = begin(world, voice)
    deposited = put_down(world, lease)
    assert finish_with(world, deposited)
    assert finish_with(world, deposited) is None
    assert (world.count("output"), len(world.leaves("job:outcome"))) == (1, 1)


def test_no_two_outputs_share_a_mark(world: World, voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ids whose marks would say the same, by force: the registry refuses the second; a third goes on."""
    first = made(world, voice)
    with monkeypatch.context() as forced:
        forced.setattr(marking, "mark_identity", lambda *_: first.mark_identity)
        job, lease = begin(world, voice)
        twin = put_down(world, lease)
    before = world.snapshot()
    assert refused(world, twin) == "mark_identity_taken"
    assert world.snapshot() == before
    assert world.job(job.id).status == JobStatus.RUNNING
    assert finish_with(world, put_down(world, lease)) is not None
    assert world.count("output") == 2


@on_sqlite
def test_nothing_personal_is_in_the_log(world: World, voice: str, consent: str) -> None:
    output = made(world, voice)
    fetch(world, output.id)
    world.revoke(consent)
    fetch(world, output.id)
    written = json.dumps(world.leaves())
    for word in ("Jane", "ill-disposed", "changed my mind"):
        assert word not in written

"""Nothing is kept longer than it may be, and the proof of it stays."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from tests.consent.world import NOW, RECORDING, World
from tests.release.desk import begin, fetch, finish_with, made, put_down

from vivavoce.consent.profiles import profile
from vivavoce.consent.voices import check_clip, create_voice
from vivavoce.ledger.rights import DoomedObject
from vivavoce.ledger.tables import Consent, ConsentStatus, Job, JobKind, JobStatus, Output, Subject, Tenant
from vivavoce.ledger.webhooks import Event, Webhook, WebhookDelivery
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.door import Withheld
from vivavoce.release.retention import DELIVERY_KEPT, REJECTED_KEPT, forget_upload, retire

KEPT = profile("max").kept


def go_over(world: World, now: datetime) -> int:
    """Retire until nothing is left, and delete it, as a reaper does; returns the objects that were deleted."""
    while True:
        with world.database.write() as session:
            if not retire(session, world.log, "worker:1", now):
                break
    return delete_doomed(world.database, world.store, world.log, "worker:1")


def voice_with_clip(world: World, consent: str) -> str:
    with world.database.write() as session:
        return create_voice(
            session, world.log, world.store, world.keyring, tenant_id=world.account.tenant_id, actor="key_1",
            name="Jane", consent_id=consent, clip=check_clip(RECORDING.data, "what is said"), now=NOW,
        ).id  # fmt: skip


def test_outputs_and_requests_go_after_their_time_and_not_before(world: World) -> None:
    voice = world.voice(world.consent())
    output = made(world, voice)
    assert go_over(world, NOW + KEPT - timedelta(seconds=1)) == 0
    assert not isinstance(fetch(world, output.id), Withheld)
    assert go_over(world, NOW + KEPT) == 2  # the sound and the request
    kept = fetch(world, output.id, NOW + KEPT)
    assert isinstance(kept, Withheld) and kept.code == "retention_over"
    assert not [key for key in world.store.list() if key.startswith(("outputs", "jobs"))]
    with world.database.read() as session:
        row = session.get_one(Output, output.id)
        assert row.deleted_at is not None and row.sha256 and session.get_one(Job, row.job_id).purged_at is not None
    assert go_over(world, NOW + 2 * KEPT) == 0


def test_a_tenants_own_law_decides_how_long(small_world: World) -> None:
    made(small_world, small_world.voice(small_world.consent()))
    with small_world.database.write() as session:
        session.get_one(Tenant, small_world.account.tenant_id).profile = "cn"
    assert go_over(small_world, NOW + KEPT) == 0
    assert go_over(small_world, NOW + profile("cn").kept) == 2


def test_recordings_go_when_the_consent_has_run_out(world: World) -> None:
    """Recording and clips; name, evidence and log stay, and the log says how many objects went."""
    consent = world.consent()
    voice_with_clip(world, consent)
    end = NOW + timedelta(days=365)
    assert go_over(world, end - timedelta(seconds=1)) == 0
    assert go_over(world, end) == 2
    assert world.store.list() == []
    assert [leaf["facts"] for leaf in world.leaves("consent:purge")] == [{"objects": 2}]
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
        assert row.purged_at == end and row.name_sealed and row.recording_sha256
    assert go_over(world, end + timedelta(days=900)) == 0


def test_who_was_only_ever_rejected_is_erased(world: World) -> None:
    """No link leads to them: their name and the text they were shown must not outlive the question why."""
    consent, accepted = world.consent(), world.consent()
    world.change(consent, status=ConsentStatus.REJECTED)
    assert go_over(world, NOW + REJECTED_KEPT - timedelta(seconds=1)) == 0
    assert go_over(world, NOW + REJECTED_KEPT) == 1
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
        assert (row.status, row.name_sealed, row.recording_sha256) == (ConsentStatus.ERASED, b"", "")
        assert session.get_one(Subject, row.subject_id).wrapped_key is None
        assert session.get_one(Consent, accepted).status == ConsentStatus.VERIFIED
    assert [leaf["refs"]["subject"] for leaf in world.leaves("subject:erase")] == [row.subject_id]
    assert go_over(world, NOW + 2 * REJECTED_KEPT) == 0


def test_a_rejected_attempt_of_somebody_who_was_accepted_loses_its_recording_alone(world: World) -> None:
    rejected, accepted = world.consent(), world.consent()
    with world.database.read() as session:
        speaker = session.get_one(Consent, accepted).subject_id
    world.change(rejected, status=ConsentStatus.REJECTED, subject_id=speaker)
    assert go_over(world, NOW + REJECTED_KEPT) == 1
    with world.database.read() as session:
        assert session.get_one(Consent, rejected).purged_at is not None
        assert session.get_one(Consent, accepted).status == ConsentStatus.VERIFIED
    assert world.leaves("subject:erase") == []


def test_a_job_that_still_runs_keeps_its_request(small_world: World) -> None:
    voice = small_world.voice(small_world.consent())
    job, lease = begin(small_world, voice)
    assert go_over(small_world, NOW + KEPT) == 0
    assert finish_with(small_world, put_down(small_world, lease)) is not None
    assert small_world.job(job.id).request_key in small_world.store.list()


def test_a_sound_that_was_only_looked_at_goes_after_a_day(small_world: World) -> None:
    job = small_world.admit(
        small_world.submission(None, kind=JobKind.DETECTION, purpose=None, format=None, request={}, input=b"sound")
    )
    with small_world.database.write() as session:
        session.get_one(Job, job.id).finished_at = NOW
    assert go_over(small_world, NOW + timedelta(hours=23)) == 0
    assert go_over(small_world, NOW + timedelta(days=1)) == 2


def test_a_strangers_upload_goes_with_its_answer_and_after_a_crash_with_the_next_look(small_world: World) -> None:
    job = small_world.admit(
        small_world.submission(None, kind=JobKind.DETECTION, purpose=None, format=None, request={}, input=b"sound")
    )
    with small_world.database.write() as session:
        row = session.get_one(Job, job.id)
        row.status, row.finished_at, row.result = JobStatus.SUCCEEDED, NOW, {"verdict": "ours"}
    with small_world.database.write() as session:
        forget_upload(session, session.get_one(Job, job.id), NOW)
    assert len(small_world.store.list()) == 2  # and here the process dies
    assert small_world.job(job.id).result is None
    assert go_over(small_world, NOW) == 2
    assert small_world.store.list() == []
    assert small_world.leaves("object:delete")[-1]["facts"] == {"why": "retention", "objects": 2}


def test_what_was_told_to_a_webhook_goes_after_a_month_and_what_must_still_be_told_stays(world: World) -> None:
    told, open_still = "msg_told", "msg_open"
    with world.database.write() as session:
        tenant = world.account.tenant_id
        hook = Webhook(id="hook_1", tenant_id=tenant, sealed=b"", events=[], created_at=NOW, deleted_at=None)
        session.add(hook)
        session.flush()
        for name, next_at in ((told, None), (open_still, NOW + timedelta(hours=1))):
            event = {"webhook_id": hook.id, "event": Event.JOB_FAILED, "refs": {}, "created_at": NOW}
            session.add(WebhookDelivery(id=name, **event, attempts=1, next_at=next_at))
    for moment, left in ((DELIVERY_KEPT - timedelta(seconds=1), {told, open_still}), (2 * DELIVERY_KEPT, {open_still})):
        go_over(world, NOW + moment)
        with world.database.read() as session:
            assert set(session.scalars(select(WebhookDelivery.id))) == left


def test_without_a_log_nothing_goes(world: World) -> None:
    world.consent()
    before = world.store.list()
    world.break_log()
    with pytest.raises(Exception, match="log"), world.database.write() as session:
        retire(session, world.log, "worker:1", NOW + timedelta(days=400))
    with world.database.read() as session:
        assert session.scalars(select(DoomedObject)).all() == []
    assert world.store.list() == before

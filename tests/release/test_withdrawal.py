"""A speaker leaves: what is queued, made and kept is gone or closed at once, and every old proof still holds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.consent.test_receipt import check, issue
from tests.consent.world import NOW, World, on_sqlite
from tests.release.desk import begin, fetch, finish_with, made, mark, put_down

from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.errors import LogUnavailable
from vivavoce.audit.notes import Checkpoint
from vivavoce.consent import ConsentRefused, Scope
from vivavoce.consent.service import speaker_name
from vivavoce.consent.voices import check_clip, create_voice, delete_voice, find_voice
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import Erased, ObjectStoreUnavailable
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.rights import DoomedObject
from vivavoce.ledger.tables import Base, Consent, Subject
from vivavoce.release.deletion import delete_doomed
from vivavoce.release.door import Released, ReleaseRefused, Withheld
from vivavoce.release.withdrawal import Erasure, end_hopeless, erase, withdraw

CLIP = check_clip((Path(__file__).parents[1] / "data/speech/goforward.flac").read_bytes(), "go forward ten meters")


def withdraw_at(world: World, consent: str) -> None:
    with world.database.write() as session:
        withdraw(session, world.log, consent, "I changed my mind", "subject", NOW)


def subject_of(world: World, consent: str) -> str:
    with world.database.read() as session:
        return session.get_one(Consent, consent).subject_id


def erase_of(world: World, consent: str) -> Erasure:
    with world.database.write() as session:
        return erase(session, world.log, subject_of(world, consent), "subject", NOW)


def sweep(world: World) -> int:
    return delete_doomed(world.database, world.store, world.log, "worker:test")


def real_voice(world: World, consent: str) -> str:
    with world.database.write() as session:
        return create_voice(
            session, world.log, world.store, world.keyring, tenant_id=world.account.tenant_id,
            actor=world.account.key_id, name="Jane", consent_id=consent, clip=CLIP, now=NOW,
        ).id  # fmt: skip


def test_a_withdrawal_reaches_everything_within_a_second(world: World) -> None:
    """Queued, running, made and fetched, made and not fetched, asked for afterwards."""
    consent = world.consent()
    voice = world.voice(consent)
    fetched, lying = made(world, voice), made(world, voice)
    assert isinstance(fetch(world, fetched.id), Released)
    _, lease = begin(world, voice)
    running = put_down(world, lease, mark(world.keyring))
    queued = [world.admit(world.submission(voice)).id for _ in range(20)]
    other = world.admit(world.submission(world.voice(world.consent()))).id
    started = time.perf_counter()
    withdraw_at(world, consent)
    taken = time.perf_counter() - started
    assert {(world.job(job).status, world.job(job).error_code) for job in queued} == {("refused", "consent_revoked")}
    with pytest.raises(ConsentRefused, match="consent_revoked"):
        world.admit(world.submission(voice))
    assert finish_with(world, running) is None
    assert (world.job(lease.job_id).status, world.job(lease.job_id).error_code) == ("refused", "consent_revoked")
    for output in (fetched, lying):
        withheld = fetch(world, output.id)
        assert isinstance(withheld, Withheld) and withheld.code == "consent_revoked"
    assert taken < 1.0
    assert world.job(other).status == "queued"
    outcomes = [leaf["refs"]["job"] for leaf in world.leaves("job:outcome") if leaf["facts"]["status"] == "refused"]
    assert sorted(outcomes) == sorted([*queued, lease.job_id])
    assert {leaf["actor"] for leaf in world.leaves("job:outcome") if leaf["refs"]["job"] in queued} == {"subject"}
    assert world.leaves("output:withhold")[0]["facts"] == {"code": "consent_revoked", "outputs": 2}


def test_withdrawing_twice_changes_nothing(world: World) -> None:
    consent = world.consent()
    world.admit(world.submission(world.voice(consent)))
    withdraw_at(world, consent)
    before = world.snapshot()
    withdraw_at(world, consent)
    assert world.snapshot() == before


def test_without_a_log_nothing_is_withdrawn_or_erased(world: World) -> None:
    consent = world.consent()
    job = world.admit(world.submission(world.voice(consent))).id
    before = world.snapshot()
    world.break_log()
    for leave in (withdraw_at, erase_of):
        with pytest.raises(LogUnavailable):
            leave(world, consent)
    assert world.snapshot() == before
    assert world.job(job).status == "queued"


def test_erased_nothing_of_the_person_is_left_and_every_proof_holds(world: World, tmp_path: Path) -> None:
    consent = world.consent()
    voice = real_voice(world, consent)
    output = made(world, voice)
    fetch(world, output.id)
    queued = world.admit(world.submission(voice)).id
    stays = world.consent()
    kept = made(world, real_voice(world, stays))
    receipt_before, bundle_before = issue(world, consent), export(world, tmp_path / "before.jsonl")

    found = erase_of(world, consent)
    assert (found.consents, found.voices, found.jobs, found.outputs) == (1, 1, 1, 1)
    assert sweep(world) == found.objects == 5  # recording, clip, two requests, output
    assert world.job(queued).error_code == "consent_erased"
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
        subject = session.get_one(Subject, row.subject_id)
        assert (row.status, subject.wrapped_key, subject.erased_at) == ("erased", None, NOW)
        with pytest.raises(Erased):
            speaker_name(session, world.keyring, row)
        for leaf in world.leaves():
            if leaf["personal"] is not None and leaf["refs"].get("subject") == subject.id:
                with pytest.raises(Erased):
                    world.log.personal(session, leaf["index"])
    withheld = fetch(world, output.id)
    assert isinstance(withheld, Withheld) and withheld.code == "consent_erased"
    with pytest.raises(ConsentRefused, match="consent_erased"):
        world.admit(world.submission(voice))

    # Receipts and log: those given out before verify, a new one says what happened, the log is one with what it was.
    assert check(world, receipt_before).receipt.status == "verified"
    assert check(world, issue(world, consent)).receipt.status == "erased"
    now_size = export(world, tmp_path / "after.jsonl")
    assert verify_bundle(tmp_path / "before.jsonl").size == bundle_before
    assert verify_bundle(tmp_path / "after.jsonl").size == now_size > bundle_before
    # Nobody else is touched.
    assert isinstance(fetch(world, kept.id), Released)
    assert sorted(world.store.list()) == sorted(sealed_objects(world, stays, kept.object_key))


def export(world: World, path: Path) -> int:
    with world.database.write() as session:
        size = Checkpoint.open(world.log.checkpoint(session), world.log.verifier).size
        write_bundle(session, world.log, size, path)
    return size


def sealed_objects(world: World, consent: str, output_key: str) -> list[str]:
    with world.database.read() as session:
        clips = session.scalars(
            text("SELECT c.object_key FROM reference_clip c JOIN voice v ON v.id = c.voice_id WHERE v.consent_id = :c"),
            {"c": consent},
        ).all()
        requests = session.scalars(text("SELECT request_key FROM job WHERE consent_id = :c"), {"c": consent}).all()
        return [session.get_one(Consent, consent).recording_key, *clips, *requests, output_key]


@on_sqlite
def test_no_row_holds_what_was_personal(world: World) -> None:
    """Byte by byte over all tables: no ciphertext, no digest of a recording, no reason, no name."""
    consent = world.consent()
    real_voice(world, consent)
    withdraw_at(world, consent)
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
        personal = [row.recording_sha256, row.revoked_reason, CLIP.sha256, "Jane"]
        sealed = [row.name_sealed, session.get_one(Subject, row.subject_id).wrapped_key]
        sealed += session.scalars(text("SELECT transcript_sealed FROM reference_clip")).all()
        sealed += session.scalars(text("SELECT sealed FROM audit_payload")).all()
    assert all(dumped(world).count(word.encode()) for word in personal if word)
    erase_of(world, consent)
    after = dumped(world)
    assert [word for word in personal if word and word.encode() in after] == []
    assert [part for part in sealed if part and part in after] == []


def dumped(world: World) -> bytes:
    """All values of all tables."""
    with world.database.read() as session:
        rows = [row for table in Base.metadata.sorted_tables for row in session.execute(select(table))]
    return b"\0".join(v if isinstance(v, bytes) else str(v).encode() for row in rows for v in row if v is not None)


def test_erasing_twice_changes_nothing(world: World) -> None:
    consent = world.consent()
    assert erase_of(world, consent).consents == 1
    assert sweep(world) == 1
    before = world.snapshot()
    assert erase_of(world, consent) == Erasure()
    assert sweep(world) == 0
    assert world.snapshot() == before
    with pytest.raises(ConsentRefused, match="unknown_subject"), world.database.write() as session:
        erase(session, world.log, "sub_\0", "subject", NOW)


@on_sqlite
def test_a_deletion_that_was_broken_off_is_finished(world: World) -> None:
    """The store fails, or the process is killed, after some objects and before the rows: nothing is forgotten."""

    class Failing(ObjectStore):
        left = 2

        def delete(self, key: str) -> None:
            if not self.left:
                raise ObjectStoreUnavailable("away")
            self.left -= 1
            world.store.delete(key)

    consent = world.consent()
    made(world, real_voice(world, consent))
    objects = erase_of(world, consent).objects
    with pytest.raises(ObjectStoreUnavailable):
        delete_doomed(world.database, Failing("memory://"), world.log, "worker:test")
    assert len(world.store.list()) == objects - 2
    assert world.count("doomed_object") == objects
    assert sweep(world) == objects
    assert (world.store.list(), world.count("doomed_object")) == ([], 0)
    assert [leaf["facts"] for leaf in world.leaves("object:delete")] == [{"why": "erased", "objects": objects}]


KILLED = """
import os, sys
from pathlib import Path
from vivavoce.audit.log import Log
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.release.deletion import delete_doomed

class Dying(ObjectStore):
    def delete(self, key):
        super().delete(key)
        os.kill(os.getpid(), 9)

url, objects, keys = sys.argv[1:]
delete_doomed(Database(url), Dying(objects), Log(KeyRing.open(Path(keys)), "test.example/log"), "worker:test")
"""


def test_a_process_killed_in_the_middle_leaves_the_rest_to_the_next(sqlite_url: str, tmp_path: Path) -> None:
    """Kill -9 between two objects: another process finds all that is left and finishes."""
    world = World(Database(sqlite_url), KeyRing.open(tmp_path / "keys", create=True))
    objects_url = f"file://{tmp_path / 'objects'}"
    world.store = ObjectStore(objects_url)
    consent = world.consent()
    made(world, real_voice(world, consent))
    objects = erase_of(world, consent).objects
    command = [sys.executable, "-c", KILLED, sqlite_url, objects_url, str(tmp_path / "keys")]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert len(world.store.list()) == objects - 1
    assert sweep(world) == objects
    assert world.store.list() == []


def test_two_who_delete_the_same_count_it_once(world: World) -> None:
    consent = world.consent()
    made(world, real_voice(world, consent))
    objects = erase_of(world, consent).objects
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: sweep(world), range(4)))
    assert sum(counts) == objects
    assert sum(leaf["facts"]["objects"] for leaf in world.leaves("object:delete")) == objects


def test_erasure_against_admission_and_release(world: World) -> None:
    """Whoever comes first: afterwards no job waits, nothing is released, and no object stays."""
    for round_ in range(8):
        consent = world.consent()
        voice = real_voice(world, consent)
        _, lease = begin(world, voice)
        ready = put_down(world, lease, mark(world.keyring))

        def act(which: int) -> Any:
            try:
                if which == 0:
                    return finish_with(world, ready)  # noqa: B023
                return world.admit(world.submission(voice)) if which == 1 else erase_of(world, consent)  # noqa: B023
            except (ConsentRefused, ReleaseRefused, Erased) as refusal:
                return refusal

        with ThreadPoolExecutor(3) as pool:
            order = [0, 1, 2] if round_ % 2 else [2, 1, 0]
            list(pool.map(act, order))
        sweep(world)
        with world.database.read() as session:
            waiting = session.scalars(
                text("SELECT id FROM job WHERE consent_id = :c AND status = 'queued'"), {"c": consent}
            ).all()
            assert waiting == []
            assert session.scalars(select(DoomedObject.object_key)).all() == []
        left = [key for key in world.store.list() if lease.job_id not in key]
        assert [key for key in left if not key.startswith("outputs/")] == []


def test_reapers_end_what_can_never_be_permitted(world: World) -> None:
    """A consent that ran out, a voice that was deleted: their jobs do not wait for a worker to come by."""
    lasting, short = world.consent(), world.consent(scope=Scope(lifetime=timedelta(minutes=5)))
    gone, alive = world.voice(lasting), world.voice(lasting)
    jobs = {name: world.admit(world.submission(voice)).id for name, voice in
            (("out", world.voice(short)), ("gone", gone), ("alive", alive))}  # fmt: skip
    with world.database.write() as session:
        delete_voice(session, world.log, find_voice(session, world.account.tenant_id, gone), "operator", NOW)
    with world.database.write() as session:
        assert end_hopeless(session, world.log, "worker:test", NOW + timedelta(minutes=6)) == 2
    assert {name: (world.job(job).status, world.job(job).error_code) for name, job in jobs.items()} == {
        "out": ("refused", "consent_expired"),
        "gone": ("refused", "voice_deleted"),
        "alive": ("queued", None),
    }
    assert "Jane" not in json.dumps(world.leaves())

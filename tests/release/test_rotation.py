"""New keys are used from a moment on; what the old ones made stays open, provable and deliverable, until they go."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.consent.world import World

import vivavoce.ledger
from vivavoce.api.keys import create_key, find_key
from vivavoce.api.scopes import Scope
from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.documents import Keys
from vivavoce.audit.errors import BundleBroken, DocumentBroken, NoteInvalid, WitnessBroken
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.audit.publishing import sign_and_keep
from vivavoce.audit.watch import examine
from vivavoce.audit.witness import Witness, make_witness, write_request
from vivavoce.consent import grant
from vivavoce.consent.errors import GrantRefused
from vivavoce.consent.receipt_check import check_receipt
from vivavoce.consent.receipt_issue import issue_receipt
from vivavoce.ledger import rotation as files
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import KeyRingError, SealBroken
from vivavoce.ledger.keys import KeyFile, KeyRing
from vivavoce.ledger.tables import Base, Job, Subject
from vivavoce.ledger.webhooks import Webhook
from vivavoce.policy.admission import authorize_job, open_request
from vivavoce.policy.webhooks import Target, create_webhook, new_secret, open_target
from vivavoce.release.rotation import PLAIN, retire, rewrap, rotate

TARGET = Target("https://example.com/hook", new_secret())


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Place:
    """An installation whose key files may be changed, and the ring that a process would open now."""

    folder: Path
    world: World

    @property
    def ring(self) -> KeyRing:
        return KeyRing.open(self.folder)

    @property
    def log(self) -> Log:
        return Log(self.ring, self.world.log.origin)

    def rotate(self, name: str) -> KeyRing:
        return rotate(self.world.database, self.log, self.folder, name, "operator")

    def retire(self, name: str, *, force: bool = False) -> None:
        retire(self.world.database, self.log, self.ring, self.world.store, self.folder, name, "operator", force=force)

    def rewrap(self) -> int:
        return sum(rewrap(self.world.database, self.ring, self.world.store))

    def receipt(self, consent_id: str) -> bytes:
        with self.world.database.write() as session:
            return issue_receipt(session, self.log, self.ring, consent_id, "operator", now()).encode()


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Iterator[Place]:
    folder = tmp_path / "keys"
    yield Place(folder, World(database, KeyRing.open(folder, create=True)))


def queued(place: Place) -> str:
    world = place.world
    voice = world.voice(world.consent(now=now() - timedelta(minutes=1)))
    return world.admit(world.submission(voice), now()).id


def test_a_job_that_waits_outlives_every_rotation(place: Place) -> None:
    job_id = queued(place)
    for name in files.ROTATED:
        place.rotate(name)
    with place.world.database.read() as session:
        job = session.get_one(Job, job_id)
        assert authorize_job(session, place.ring, job, now()).consent_id == job.consent_id
        assert open_request(job, session, place.world.store, place.ring)[0]["text"]
    facts = [leaf["facts"] for leaf in place.world.leaves("ledger:rotate")]
    assert [fact["key"] for fact in facts] == list(files.ROTATED)
    secrets = [line.split()[-1] for file in place.ring.files.values() for line in str(file).splitlines()]
    assert len(secrets) == 9 and not any(secret in json.dumps(facts) for secret in secrets)


def test_a_grants_signer_goes_when_no_job_holds_its_grants(place: Place) -> None:
    job_id = queued(place)
    place.rotate("grant_signer")
    with pytest.raises(KeyRingError, match="1 jobs"):
        place.retire("grant_signer")
    place.retire("grant_signer", force=True)
    with place.world.database.read() as session, pytest.raises(GrantRefused) as refused:
        grant.read(session.get_one(Job, job_id).grant_token or "", place.ring)
    assert refused.value.code == "grant_forged"


def test_everything_is_sealed_anew_and_the_old_master_key_can_go(place: Place) -> None:
    """Killed after any page it goes on; what is left under the old key keeps that key."""
    job_id, world = queued(place), place.world
    with world.database.write() as session:
        hook = create_webhook(
            session, world.log, place.ring, tenant_id=world.account.tenant_id, actor="operator", target=TARGET,
            events=["job.failed"], now=now(), to_loopback=False,
        ).id  # fmt: skip
    place.rotate("kek")
    with pytest.raises(KeyRingError, match="2 sealed values are under it; `vivavoce keys rewrap`"):
        place.retire("kek")
    pages = rewrap(world.database, place.ring, world.store)
    assert next(pages) == 1
    pages.close()
    with pytest.raises(KeyRingError, match="1 sealed values"):
        place.retire("kek")
    assert (place.rewrap(), place.rewrap()) == (1, 0)
    place.retire("kek")
    assert len(place.ring.keks) == 1
    with world.database.read() as session:
        assert open_target(place.ring, session.get_one(Webhook, hook)) == TARGET
        job = session.get_one(Job, job_id)
        assert open_request(job, session, world.store, place.ring)[0]["text"]


def test_without_the_old_master_key_what_it_sealed_is_lost_and_says_so(place: Place) -> None:
    job_id = queued(place)
    place.rotate("kek")
    place.retire("kek", force=True)
    with place.world.database.read() as session, pytest.raises(SealBroken, match="under another key"):
        open_request(session.get_one(Job, job_id), session, place.world.store, place.ring)
    with pytest.raises(SealBroken):
        place.rewrap()


def test_who_is_erased_stays_erased(place: Place) -> None:
    queued(place)
    with place.world.database.write() as session:
        for subject in session.scalars(select(Subject)):
            subject.wrapped_key = None
    place.rotate("kek")
    assert place.rewrap() == 0


def test_every_sealed_column_is_sealed_anew_or_under_a_subjects_key() -> None:
    """A new table cannot be forgotten: what is under the installation's key says so in its documentation."""
    for module in pkgutil.iter_modules(vivavoce.ledger.__path__, "vivavoce.ledger."):
        importlib.import_module(module.name)  # all tables, whatever another test has imported
    named = {f"{column.class_.__tablename__}.{column.key}" for column in PLAIN}
    subjects = {
        "audit_payload.sealed", "consent.guardian_sealed", "consent.name_sealed", "output_chunk.sealed",
        "reference_clip.transcript_sealed", "verification.text_sealed", "verification.transcript_sealed",
        "voice_print.sealed",
    }  # fmt: skip
    sealed = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name.endswith("sealed")
    }
    assert sealed == named | subjects


def test_api_keys_outlive_the_pepper_until_it_is_given_up(place: Place) -> None:
    world = place.world
    with world.database.write() as session:
        row, token = create_key(
            session, world.log, place.ring, tenant_id=world.account.tenant_id, name="robot", scopes=[Scope.SPEECH],
            now=now(), actor="operator",
        )  # fmt: skip
        key_id = row.id
    ring = place.rotate("pepper")
    with world.database.read() as session:
        found = find_key(session, ring, token)
        assert found is not None and found.id == key_id
    with pytest.raises(KeyRingError, match=r"API keys.*--force"):
        place.retire("pepper")
    place.retire("pepper", force=True)
    with world.database.read() as session:
        assert find_key(session, place.ring, token) is None


def test_the_logs_old_key_vouches_for_the_new_one(place: Place, tmp_path: Path) -> None:
    """Strangers and witnesses who hold either key go on; the log says which key comes, before it comes."""
    world, consent_id = place.world, place.world.consent(now=now() - timedelta(minutes=1))
    heads = Heads(world.store, *place.log.verifiers)
    before, old = place.receipt(consent_id), Keys.of(place.ring, place.log.origin)
    make_witness(tmp_path / "witness", "witness.example/w")
    witness = Witness(tmp_path / "witness", lambda: 1)
    witness.trust(old.log)
    first = sign_and_keep(world.database, place.log, heads)
    assert witness.add_checkpoint(write_request(0, [], first)).status == 200
    place.rotate("log_signer")
    new, log = Keys.parse(str(Keys.of(place.ring, place.log.origin))), place.log
    heads = Heads(world.store, *log.verifiers)
    note = sign_and_keep(world.database, log, heads)
    assert Checkpoint.open(note, old.log) == Checkpoint.open(note, new.log)
    announced = world.leaves("ledger:rotate")[-1]["facts"]["to_public"]
    assert Verifier.parse(announced) == new.log
    after = place.receipt(consent_id)
    for document in (before, after):
        assert check_receipt(document, new).receipt.record_id == consent_id
    check_receipt(before, old)
    with pytest.raises(DocumentBroken):
        check_receipt(after, old)
    # A witness takes the next key on the old one's word, and on nothing less.
    with pytest.raises(WitnessBroken, match="another key"):
        witness.trust(new.log)
    with pytest.raises(WitnessBroken, match="does not lead"):
        witness.trust(new.log, first)
    witness.trust(new.log, note)
    # The old key goes: what it signed is verified still, and nothing new bears its name.
    place.retire("log_signer")
    keys, log = Keys.of(place.ring, place.log.origin), place.log
    assert len(place.ring.log_signers) == 1 and check_receipt(before, keys)
    last = sign_and_keep(world.database, log, Heads(world.store, *log.verifiers))
    with pytest.raises(NoteInvalid, match="not signed by"):
        Checkpoint.open(last, old.log)
    with world.database.read() as session:
        path = log.consistency(session, Checkpoint.open(first, old.log).size, Checkpoint.open(last, new.log).size)
        assert examine(session, log, Heads(world.store, *log.verifiers), now(), timedelta.max).broken == ()
        write_bundle(session, log, log.size(session), tmp_path / "log.jsonl")
    # Whoever holds any one of the keys checks the whole log, which was signed with both, one after the other.
    for key in (old.log, new.log):
        assert verify_bundle(tmp_path / "log.jsonl", str(key)).key == str(new.log)
    with pytest.raises(BundleBroken, match="public key"):
        verify_bundle(tmp_path / "log.jsonl", str(Verifier(log.origin, place.ring.grant_verifier)))
    # Without the entry that names it, the new key is nobody's.
    forged = (tmp_path / "log.jsonl").read_bytes().replace(b"ledger:rotate", b"ledger:retire")
    (tmp_path / "forged.jsonl").write_bytes(forged)
    with pytest.raises(BundleBroken, match="altered"):
        verify_bundle(tmp_path / "forged.jsonl", str(old.log))
    size = Checkpoint.open(first, old.log).size
    assert witness.add_checkpoint(write_request(size, path, last)).status == 200


def test_a_ring_without_the_old_log_key_finds_the_log_not_its_own(place: Place) -> None:
    with place.world.database.write() as session:
        place.log.checkpoint(session)
    (place.folder / "log_signer.key").write_text(str(KeyFile(bytes(range(32)))))
    with place.world.database.write() as session, pytest.raises(Exception, match="not ours"):
        place.log.checkpoint(session)


def test_a_rotation_that_was_killed_takes_the_key_that_was_announced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(files, "take_into_use", _killed)
        place.rotate("kek")
    assert len(place.ring.keks) == 2 and place.ring.files["kek"].next is not None
    place.rotate("kek")
    first, second = (leaf["facts"] for leaf in place.world.leaves("ledger:rotate"))
    assert first == second and first["to"] == files.key_id("kek", place.ring.kek)


def _killed(*_: object) -> KeyFile:
    raise KeyboardInterrupt


def test_the_mark_key_cannot_be_rotated(place: Place) -> None:
    before = place.world.leaves()
    with pytest.raises(KeyRingError, match="mark_key cannot be rotated"):
        place.rotate("mark_key")
    with pytest.raises(KeyRingError, match="no old key of kek"):
        place.retire("kek")
    assert place.world.leaves() == before


@pytest.mark.parametrize("line", ["next x", "old", "new " + "A" * 43 + "=", "public " + "A" * 43 + "=", "A" * 43 + "="])
def test_a_damaged_line_is_refused(place: Place, line: str) -> None:
    path = place.folder / "kek.key"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(KeyRingError, match=r"kek\.key"):
        KeyRing.open(place.folder)

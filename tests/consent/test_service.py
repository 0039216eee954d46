"""A consent is recorded with its evidence and a leaf, or not at all; and it can be taken back."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from tests.consent.world import NOW, RECORDING, SPEECH, World, on_sqlite

from vivavoce.audit.errors import LogUnavailable
from vivavoce.consent import ConsentInvalid, ConsentRefused, Purpose, Scope
from vivavoce.consent.scope import LONGEST_LIFETIME
from vivavoce.consent.service import check_recording, create_consent, revoke, speaker_name
from vivavoce.consent.statements import statement
from vivavoce.ledger.envelope import destroy_subject_key, unseal
from vivavoce.ledger.errors import Erased, ObjectStoreUnavailable
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Consent, Subject
from vivavoce.sound import SoundError


def create(world: World, **changes: Any) -> Consent:
    asked: dict[str, Any] = {
        "tenant_id": world.account.tenant_id,
        "actor": world.account.key_id,
        "name": "Jane Reader",
        "recording": RECORDING,
        "language": "en",
        "now": NOW,
    }
    with world.database.write() as session:
        return create_consent(session, world.log, world.store, world.keyring, **asked | changes)


def test_a_consent_is_kept_whole(world: World) -> None:
    """Row, leaf and evidence: the recording comes back byte for byte, the leaf pins the sentence that was read."""
    scope = Scope(purposes=frozenset({Purpose.AUDIOBOOK}), territory=("DE",), commercial=True)
    made = create(world, scope=scope)
    with world.database.read() as session:
        kept = session.get_one(Consent, made.id)
        subject = session.get_one(Subject, kept.subject_id)
        assert speaker_name(session, world.keyring, kept) == "Jane Reader"
        personal = json.loads(world.log.personal(session, kept.leaf_index or 0))
    recording = unseal(world.keyring, subject, world.store.get(kept.recording_key), kept.recording_key.encode())
    assert hashlib.sha256(recording).hexdigest() == kept.recording_sha256 == RECORDING.sha256
    assert personal == {"name": "Jane Reader", "recording_sha256": RECORDING.sha256}
    (leaf,) = world.leaves("consent:create")
    assert leaf["index"] == kept.leaf_index
    assert leaf["refs"] == {"consent": kept.id, "subject": kept.subject_id}
    assert leaf["facts"]["assurance"] == kept.assurance == "attested"
    assert leaf["facts"]["statement_sha256"] == statement("en").sha256
    assert (leaf["facts"]["purposes"], leaf["facts"]["territory"]) == (["audiobook"], ["DE"])


@on_sqlite
def test_no_personal_word_lies_open(world: World) -> None:
    """Neither name nor voice can be read from the log or the store."""
    made = create(world)
    leaf = json.dumps(world.leaves())
    assert "Jane" not in leaf
    assert made.recording_sha256 not in leaf
    assert b"Jane" not in made.name_sealed
    assert RECORDING.data[:64] not in world.store.get(made.recording_key)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": " \t"}, "name_empty"),
        ({"name": "x" * 201}, "name_too_long"),
        ({"name": "Jane\0"}, "name_control_characters"),
        ({"name": "Jane\ud800"}, "name_control_characters"),
        ({"language": "tlh"}, "statement_unknown"),
        ({"language": "../en"}, "statement_unknown"),
    ],
)
def test_a_malformed_consent_changes_nothing(small_world: World, changes: dict[str, Any], code: str) -> None:
    before = small_world.snapshot()
    with pytest.raises(ConsentInvalid) as caught:
        create(small_world, **changes)
    assert caught.value.code == code
    assert small_world.snapshot() == before


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"operations": frozenset()}, "scope_empty"),
        ({"purposes": frozenset()}, "scope_empty"),
        ({"lifetime": timedelta(0)}, "lifetime_out_of_range"),
        ({"lifetime": timedelta(days=-1)}, "lifetime_out_of_range"),
        ({"lifetime": LONGEST_LIFETIME + timedelta(seconds=1)}, "lifetime_out_of_range"),
        ({"languages": ("english",)}, "scope_malformed"),
        ({"languages": ("en\n",)}, "scope_malformed"),
        ({"territory": ("Germany",)}, "scope_malformed"),
    ],
)
def test_a_scope_without_sense_cannot_be_made(bounds: dict[str, Any], code: str) -> None:
    with pytest.raises(ConsentInvalid) as caught:
        Scope(**bounds)
    assert caught.value.code == code


@pytest.mark.parametrize(("data", "code"), [(b"", "empty"), (b"hello", "not_audio"), (RECORDING.data[:-900], None)])
def test_what_is_no_recording_is_refused_before_anything_is_opened(data: bytes, code: str | None) -> None:
    with pytest.raises(SoundError) as caught:
        check_recording(data)
    assert code is None or caught.value.code == code


def test_the_shortest_clip_of_the_test_data_is_long_enough() -> None:
    assert check_recording((SPEECH / "goforward.flac").read_bytes()).seconds > 2


def test_without_a_log_no_consent_is_recorded(world: World) -> None:
    before = world.snapshot()
    world.break_log()
    with pytest.raises(LogUnavailable):
        create(world)
    assert world.snapshot() == before


class FullStore(ObjectStore):
    """A store whose disk is full once the object is half written."""

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data[: len(data) // 2])
        raise ObjectStoreUnavailable("disk full")


def test_without_its_evidence_no_consent_is_recorded(world: World) -> None:
    """Half a recording does not stay behind either."""
    before = world.snapshot()
    full = FullStore("memory://")
    with pytest.raises(ObjectStoreUnavailable), world.database.write() as session:
        create_consent(
            session, world.log, full, world.keyring,
            tenant_id=world.account.tenant_id, actor="operator", name="J", recording=RECORDING, language="en", now=NOW,
        )  # fmt: skip
    assert full.list() == []
    assert world.snapshot() == before


def test_a_withdrawal_is_logged_once_and_its_reason_sealed(world: World) -> None:
    consent = world.consent()
    for _ in range(2):
        world.revoke(consent)
    (leaf,) = world.leaves("consent:revoke")
    assert leaf["refs"]["consent"] == consent
    assert leaf["actor"] == "subject"
    assert "mind" not in json.dumps(leaf)
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
        assert (row.status, row.revoked_at) == ("revoked", NOW)
        assert json.loads(world.log.personal(session, leaf["index"])) == {"reason": "I changed my mind"}


def test_without_a_log_a_withdrawal_says_so(world: World) -> None:
    """It must not look withdrawn to the speaker while no proof of it exists."""
    consent = world.consent()
    world.break_log()
    with pytest.raises(LogUnavailable):
        world.revoke(consent)
    with world.database.read() as session:
        assert session.get_one(Consent, consent).status == "verified"


def test_what_cannot_be_withdrawn(small_world: World) -> None:
    consent = small_world.consent()
    with pytest.raises(ConsentRefused, match="unknown_consent"):
        small_world.revoke("cons_\0")
    with small_world.database.write() as session:
        subject = session.get_one(Subject, session.get_one(Consent, consent).subject_id)
        destroy_subject_key(subject, NOW)
    with small_world.database.write() as session, pytest.raises(ConsentRefused, match="consent_erased"):
        revoke(session, small_world.log, consent, "", "subject", NOW)
    with small_world.database.read() as session, pytest.raises(Erased):
        speaker_name(session, small_world.keyring, session.get_one(Consent, consent))

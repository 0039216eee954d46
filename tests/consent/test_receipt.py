"""A receipt holds on another machine; nothing in it can be changed; and it tells no more than it must."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from joserfc import jws
from joserfc.jwk import OKPKey
from tests.consent.world import NOW, World, on_sqlite

from vivavoce.audit.documents import ALGORITHM, Keys, Kind, header, signer
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import DocumentBroken, LogUnavailable, NoteInvalid
from vivavoce.audit.tags import Tag
from vivavoce.consent import ConsentRefused
from vivavoce.consent.receipt import Receipt
from vivavoce.consent.receipt_check import Checked, check_receipt
from vivavoce.consent.receipt_issue import issue_receipt
from vivavoce.ledger.envelope import destroy_subject_key
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Consent, Subject


def issue(world: World, consent: str, now: Any = NOW) -> str:
    with world.database.write() as session:
        return issue_receipt(session, world.log, world.keyring, consent, "operator", now)


def keys(world: World) -> Keys:
    """What a stranger has: two lines of text."""
    return Keys.parse(str(Keys.of(world.keyring, world.log.origin)))


def check(world: World, text: str) -> Checked:
    return check_receipt(text.encode(), keys(world))


def erase(world: World, consent: str) -> None:
    with world.database.write() as session:
        subject = session.get_one(Subject, session.get_one(Consent, consent).subject_id)
        world.log.append(session, Entry(Tag.SUBJECT_ERASE, subject.tenant_id, "subject", {"subject": subject.id}))
        destroy_subject_key(subject, NOW)


def signed_again(world: World, receipt: dict[str, Any]) -> str:
    """What somebody with the receipts' signing key, but not the log's, can make."""
    key = OKPKey.import_key(signer(world.keyring))
    token = jws.serialize_compact(
        dict(header(keys(world).documents, Kind.RECEIPT)), rfc8785.dumps(receipt), key, [ALGORITHM]
    )
    return json.dumps({"receipt": receipt, "signature": jws.detach_content(token)})


def broken(world: World, text: str) -> str:
    with pytest.raises(DocumentBroken) as caught:
        check(world, text)
    return caught.value.place


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a JSON document."""
    if isinstance(value, dict):
        return [found for name, part in value.items() for found in leaves_of(part, (*path, name))]
    if isinstance(value, list):
        return [found for index, part in enumerate(value) for found in leaves_of(part, (*path, index))]
    return [path]


def altered(value: Any) -> Any:
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value or ''}x"


def test_a_receipt_says_what_was_agreed_and_verifies(world: World) -> None:
    consent = world.consent()
    checked = check(world, issue(world, consent))
    receipt = checked.receipt
    with world.database.read() as session:
        row = session.get_one(Consent, consent)
    assert (receipt.record_id, receipt.pii_principal_id, receipt.status) == (consent, row.subject_id, "verified")
    said = receipt.pii_processing
    assert (list(said.services), list(said.purposes)) == (row.operations, row.purposes)
    assert (said.valid_from, said.expires_at) == (row.valid_from, row.expires_at)
    assert said.privacy_notice is not None
    assert [event.event_type for event in receipt.events] == ["consent:create", "consent:read"]
    assert receipt.parties[0].party_id == world.account.tenant_id
    (read,) = world.leaves("consent:read")
    assert read["refs"] == {"consent": consent, "receipt": receipt.receipt_id}
    assert checked.log_size == read["index"] + 1


@on_sqlite
def test_a_change_to_any_value_is_found(world: World) -> None:
    file = json.loads(issue(world, world.consent()))
    for path in leaves_of(file):
        changed = json.loads(json.dumps(file))
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = altered(place[path[-1]])
        assert broken(world, json.dumps(changed)) == "signature"


@on_sqlite
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda r: r["pii_processing"]["purposes"].append("advertising"), "purposes"),
        (lambda r: r["pii_processing"].update(commercial=True), "commercial"),
        (lambda r: r["pii_processing"].update(expires_at="2036-01-01T00:00:00Z"), "expires_at"),
        (lambda r: r["pii_processing"]["statement"].update(sha256="00" * 32), "statement_sha256"),
        (lambda r: r["pii_processing"]["privacy_notice"].update(sha256="00" * 32), "voice-notice"),
        (lambda r: r["pii_processing"].update(assurance="challenge"), "assurance"),
        (lambda r: r.update(status="revoked"), "status"),
        (lambda r: r.update(issued_at="2030-01-01T00:00:00Z"), "status"),
        (lambda r: r.update(receipt_id="rcpt_1"), "log entries"),
        (lambda r: r.update(pii_principal_id="sub_1"), "log entry 0"),
        (lambda r: r.update(record_id="cons_1"), "log entry 0"),
        (lambda r: r["events"].pop(), "events"),
        (lambda r: r["parties"][0].update(party_id="ten_1"), "parties"),
        (lambda r: r["log"]["entries"].pop(0), "log entries"),
        (lambda r: r["log"]["entries"].clear(), "log entries"),
        (lambda r: r["log"]["entries"][0].update(index=1), "log entry 1"),
        (lambda r: r["log"]["entries"][0].update(data=r["log"]["entries"][0]["data"] + " "), "log entry 0"),
        (lambda r: r["log"]["entries"][0].update(path=["AAAA"]), "log entry 0"),
        (lambda r: r["log"]["entries"][0].update(path=["\u00e9"]), "log entry 0"),
        (lambda r: r["log"].update(checkpoint=r["log"]["checkpoint"].replace("\n2\n", "\n3\n")), "checkpoint"),
        (lambda r: r.update(schema_version="2"), "form"),
        (lambda r: r.update(extra=1), "form"),
    ],
)
def test_the_receipts_key_alone_can_change_nothing(world: World, change: Any, place: str) -> None:
    """Scope, time and status stand in the log too, whose head another key signed."""
    receipt = json.loads(issue(world, world.consent()))["receipt"]
    change(receipt)
    assert broken(world, signed_again(world, receipt)) == place


@on_sqlite
def test_a_withdrawal_cannot_be_left_out(world: World) -> None:
    """Not by who holds the receipts' key: the log's entry of the issue says when, and what the status was."""
    consent = world.consent()
    before = json.loads(issue(world, consent))["receipt"]
    world.revoke(consent)
    receipt = json.loads(issue(world, consent, NOW + timedelta(hours=1)))["receipt"]
    assert check(world, signed_again(world, receipt)).receipt.status == "revoked"
    receipt["status"] = "verified"
    assert broken(world, signed_again(world, receipt)) == "status"
    before["issued_at"] = receipt["issued_at"]
    assert broken(world, signed_again(world, before)) == "status"


@on_sqlite
@pytest.mark.parametrize("text", ["", "[]", "{}", "nul", "[" * 100_000, '{"receipt": 1, "signature": ""}', "\u00ff"])
def test_what_is_no_receipt_is_said_to_be_none(world: World, text: str) -> None:
    assert broken(world, text) in ("file", "signature")


@on_sqlite
def test_a_name_that_stands_twice_is_refused(world: World) -> None:
    text = issue(world, world.consent())
    twice = text.replace('"status": "verified"', '"status": "expired", "status": "verified"')
    assert twice != text
    assert broken(world, twice) == "file"


@on_sqlite
def test_another_installations_key_does_not_fit(world: World, tmp_path: Path) -> None:
    other = KeyRing.open(tmp_path / "other", create=True)
    text = issue(world, world.consent())
    strangers = Keys.of(other, world.log.origin)
    for mixed, place in ((strangers, "signature"), (Keys(strangers.log, keys(world).documents), "checkpoint")):
        with pytest.raises(DocumentBroken) as caught:
            check_receipt(text.encode(), mixed)
        assert caught.value.place == place


@on_sqlite
def test_a_grants_signature_is_no_receipts(world: World) -> None:
    """Each kind of token has its own key and its own header."""
    receipt = json.loads(issue(world, world.consent()))["receipt"]
    for key, head in (
        (world.keyring.grant_signer, header(keys(world).documents, Kind.RECEIPT)),
        (world.keyring.log_signer, header(keys(world).documents, Kind.RECEIPT)),
        (signer(world.keyring), {"alg": ALGORITHM, "typ": "vivavoce-grant"}),
    ):
        token = jws.serialize_compact(dict(head), rfc8785.dumps(receipt), OKPKey.import_key(key), [ALGORITHM])
        text = json.dumps({"receipt": receipt, "signature": jws.detach_content(token)})
        assert broken(world, text) == "signature"


def test_a_withdrawn_consents_receipt_shows_the_withdrawal(world: World) -> None:
    consent, other = world.consent(), world.consent()
    given_before = issue(world, consent)
    world.revoke(other)
    world.revoke(consent)
    receipt = check(world, issue(world, consent)).receipt
    assert receipt.status == "revoked"
    assert [event.event_type for event in receipt.events] == ["consent:create", "consent:revoke", "consent:read"]
    # The earlier one still holds: for its own time.
    assert check(world, given_before).receipt.status == "verified"


@on_sqlite
def test_a_consent_that_ran_out_says_so(world: World) -> None:
    consent = world.consent()
    assert check(world, issue(world, consent, NOW + timedelta(days=366))).receipt.status == "expired"


def test_after_erasure_the_receipt_holds_and_names_nobody(world: World) -> None:
    consent = world.consent()
    before = issue(world, consent)
    erase(world, consent)
    assert check(world, before).receipt.status == "verified"
    after = issue(world, consent)
    receipt = check(world, after).receipt
    assert receipt.status == "erased"
    assert "subject:erase" in [event.event_type for event in receipt.events]
    with world.database.read() as session:
        digest = session.get_one(Consent, consent).recording_sha256
    for text in (before, after):
        assert "Jane" not in text
        assert digest not in text
        assert base64.b64encode(bytes.fromhex(digest)).decode() not in text


def test_no_receipt_without_the_log(world: World) -> None:
    consent = world.consent()
    world.break_log()
    with pytest.raises(LogUnavailable):
        issue(world, consent)


@on_sqlite
@pytest.mark.parametrize("consent", ["cons_1", "", "cons_\0"])
def test_no_receipt_of_what_is_not_there(world: World, consent: str) -> None:
    before = world.snapshot()
    with pytest.raises(ConsentRefused, match="unknown_consent"):
        issue(world, consent)
    assert world.snapshot() == before


@on_sqlite
def test_a_key_file_has_two_keys_of_one_installation(world: World) -> None:
    log, receipts = str(keys(world)).split()
    for text in ("", log, f"{receipts}\n{log}", f"{log}\n{log}", f"{log}\n{receipts}\n{log}", "a\nb"):
        with pytest.raises(NoteInvalid):
            Keys.parse(text)


def test_the_form_is_that_of_the_standard() -> None:
    """Words of ISO/IEC TS 27560 that other programs look for."""
    assert {"schema_version", "record_id", "pii_principal_id", "pii_processing", "events"} <= set(Receipt.model_fields)
    said = Receipt.model_fields["pii_processing"].annotation
    assert said is not None
    assert {
        "privacy_notice",
        "lawful_basis",
        "purposes",
        "retention_period",
        "withdrawal_method",
        "privacy_rights",
    } <= set(said.model_fields)

"""Checking a receipt with nothing but the installation's public keys: no database, no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from vivavoce.audit.documents import Keys, Kind, open_signed, proven
from vivavoce.audit.errors import DocumentBroken
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.receipt import SCHEMA, Receipt, Wording
from vivavoce.consent.statements.catalogue import notice, statement
from vivavoce.ledger.tables import ConsentStatus

_ENDED_BY = {Tag.CONSENT_REVOKE: ConsentStatus.REVOKED, Tag.SUBJECT_ERASE: ConsentStatus.ERASED}


@dataclass(frozen=True)
class Checked:
    """A sound receipt, and the size of the log that it was proven in."""

    receipt: Receipt
    log_size: int


def check_receipt(data: bytes, keys: Keys) -> Checked:
    """Check a receipt: signature, the log's signed head, each entry's place in it, and that all say the same.

    Raises:
        DocumentBroken: Names what is wrong.
    """
    said = open_signed(data, Kind.RECEIPT, keys)
    try:
        receipt = Receipt.model_validate_json(json.dumps(said))
    except ValidationError as error:
        raise DocumentBroken("form", "signed, but not a receipt of a form that this program knows") from error
    if receipt.schema_version != SCHEMA:
        raise DocumentBroken("form", f"of the form {receipt.schema_version!r}, which this program does not know")
    size, leaves = proven(receipt.log, keys)
    _require_agreement(receipt, leaves)
    _require_status(receipt, leaves)
    _require_known(receipt)
    return Checked(receipt, size)


def _require_agreement(receipt: Receipt, leaves: list[dict[str, Any]]) -> None:
    """Check that the log says of this consent what the receipt says."""
    tags = [leaf["tag"] for leaf in leaves]
    between = set(tags[1:-1])
    if tags[:1] != [Tag.CONSENT_CREATE] or tags[-1] != Tag.CONSENT_READ or not between <= set(_ENDED_BY):
        raise DocumentBroken("log entries", "not the giving of a consent, what ended it, and this receipt's issue")
    if leaves[-1]["refs"].get("receipt") != receipt.receipt_id:
        raise DocumentBroken("log entries", "the last one is the issue of another receipt")
    for leaf in leaves:
        refs = leaf["refs"]
        same = refs.get("consent", receipt.record_id) == receipt.record_id
        if not same or refs.get("subject", receipt.pii_principal_id) != receipt.pii_principal_id or not refs:
            raise DocumentBroken(f"log entry {leaf['index']}", "about another consent")
    events = [(event.event_type, event.event_time, event.entity_id, event.leaf) for event in receipt.events]
    if events != [(x["tag"], datetime.fromisoformat(x["time"]), x["actor"], x["index"]) for x in leaves]:
        raise DocumentBroken("events", "not those of the log entries")
    controller = [party.party_id for party in receipt.parties if party.party_role == "PII controller"]
    if controller != [leaves[0]["tenant"]]:
        raise DocumentBroken("parties", "the log names another controller")
    given, issued = leaves[0]["facts"], leaves[-1]["facts"]
    if issued.get("status") != receipt.status or datetime.fromisoformat(issued["issued_at"]) != receipt.issued_at:
        raise DocumentBroken("status", "the log says something else of the time of issue")
    for name, claimed in _facts(receipt).items():
        logged = given.get(name)
        if (datetime.fromisoformat(logged) if isinstance(claimed, datetime) else logged) != claimed:
            raise DocumentBroken(name, "the log says something else")


def _require_status(receipt: Receipt, leaves: list[dict[str, Any]]) -> None:
    ended = {_ENDED_BY[Tag(leaf["tag"])] for leaf in leaves[1:-1]}
    lasts = receipt.issued_at < receipt.pii_processing.expires_at
    fits = {
        ConsentStatus.VERIFIED: not ended and lasts,
        ConsentStatus.EXPIRED: not ended and not lasts,
        ConsentStatus.REVOKED: ended == {ConsentStatus.REVOKED},
        # Who is erased may have withdrawn before.
        ConsentStatus.ERASED: True,
    }
    if not fits.get(receipt.status, not ended):
        raise DocumentBroken("status", f"{receipt.status} does not follow from the log entries and the dates")


def _require_known(receipt: Receipt) -> None:
    """Check the digests of the texts against this program's own, where it knows the language."""
    said = receipt.pii_processing
    texts: tuple[tuple[Wording | None, Any], ...] = ((said.statement, statement), (said.privacy_notice, notice))
    for text, find in texts:
        if text is None:
            continue
        try:
            known = find(text.language, text.version)
        except ConsentInvalid:
            # Released after this program; the log's signed entry still pins the statement's digest.
            continue
        if text.sha256 != known.sha256:
            raise DocumentBroken(text.id, "its wording is not the one that was released under this version")


def _facts(receipt: Receipt) -> dict[str, Any]:
    said = receipt.pii_processing
    return {
        "assurance": said.assurance,
        "statement": said.statement.id,
        "statement_version": said.statement.version,
        "statement_sha256": said.statement.sha256,
        "language": said.statement.language,
        "operations": list(said.services),
        "purposes": list(said.purposes),
        "languages": list(said.languages),
        "territory": list(said.geographic_restrictions),
        "commercial": said.commercial,
        "valid_from": said.valid_from,
        "expires_at": said.expires_at,
    }

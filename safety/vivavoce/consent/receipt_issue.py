"""Making a receipt out of the ledger and the log. The caller owns the transaction."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.documents import Kind, evidence, sign
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import NoSuchProof
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.receipt import (
    SCHEMA,
    Event,
    Notice,
    Party,
    PiiInformation,
    Processing,
    Receipt,
    Wording,
)
from vivavoce.consent.service import effective_status, lock_consent
from vivavoce.consent.statements.catalogue import catalogue, statement
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf, Consent, ConsentStatus, Subject, Tenant

_LIFE = (Tag.CONSENT_REVOKE, Tag.SUBJECT_ERASE)
"""Entries that end a consent."""
_BIOMETRIC = "biometric data"
_PII = (
    PiiInformation(pii_type="name of the speaker", special_pii_category=None),
    PiiInformation(pii_type="recording of the spoken consent", special_pii_category=_BIOMETRIC),
    PiiInformation(pii_type="recordings of the voice, with what is said in them", special_pii_category=_BIOMETRIC),
)
_RIGHTS = (
    "withdraw at any time, free of charge",
    "erasure",
    "access and a copy",
    "complain to a supervisory authority",
)


def issue_receipt(session: Session, log: Log, keyring: KeyRing, consent_id: str, actor: str, now: datetime) -> str:
    """Log that a receipt is given out, sign the log's head, and sign the receipt; returns the file's text.

    Consents that have ended have receipts too: these show how they ended.

    Raises:
        ConsentRefused: `unknown_consent`.
        NoSuchProof: The consent was recorded without an entry in the log.
        LogUnavailable, LogBroken: As `Log.append` and `Log.checkpoint`.
    """
    # The row before the log, as everywhere: no withdrawal comes between the status and the entry that states it.
    consent = lock_consent(session, consent_id, share=True)
    if consent is None:
        raise ConsentRefused("unknown_consent", "there is no such consent")
    if consent.leaf_index is None:
        raise NoSuchProof(f"{consent_id} has no entry in the log")
    subject = session.get_one(Subject, consent.subject_id, populate_existing=True)
    status = ConsentStatus.ERASED if subject.wrapped_key is None else effective_status(consent, now)
    receipt_id = new_id("rcpt")
    refs = {"consent": consent.id, "receipt": receipt_id}
    facts = {"status": str(status), "issued_at": now.isoformat()}
    issued = log.append(session, Entry(Tag.CONSENT_READ, consent.tenant_id, actor, refs, facts))
    entries = evidence(session, log, [consent.leaf_index, *_ends(session, consent), issued])
    tenant = session.get_one(Tenant, consent.tenant_id)
    receipt = Receipt(
        schema_version=SCHEMA,
        receipt_id=receipt_id,
        issued_at=now,
        record_id=consent.id,
        pii_principal_id=consent.subject_id,
        status=status,
        pii_processing=_processing(consent, log.origin),
        parties=(
            Party(party_id=tenant.id, party_role="PII controller", party_name=tenant.name),
            Party(party_id=log.origin, party_role="PII processor", party_name=log.origin),
        ),
        events=tuple(_event(json.loads(entry.data)) for entry in entries.entries),
        log=entries,
    )
    return sign(receipt, Kind.RECEIPT, keyring, log.origin)


def _ends(session: Session, consent: Consent) -> list[int]:
    """Find the entries that ended this consent."""
    rows = session.execute(
        select(AuditLeaf.index, AuditLeaf.data)
        .where(AuditLeaf.tag.in_(_LIFE), AuditLeaf.index > consent.leaf_index)
        .order_by(AuditLeaf.index)
    )
    return [index for index, data in rows if _concerns(json.loads(data), consent)]


def _concerns(leaf: dict[str, Any], consent: Consent) -> bool:
    refs = leaf["refs"]
    if leaf["tag"] == Tag.SUBJECT_ERASE:
        return bool(refs.get("subject") == consent.subject_id)
    return bool(refs.get("consent") == consent.id)


def _event(leaf: dict[str, Any]) -> Event:
    return Event(
        event_type=leaf["tag"],
        event_time=datetime.fromisoformat(leaf["time"]),
        entity_id=leaf["actor"],
        leaf=leaf["index"],
    )


def _processing(consent: Consent, origin: str) -> Processing:
    read = statement(consent.language, consent.statement_version)
    return Processing(
        privacy_notice=_notice(consent),
        statement=Wording(id=read.id, version=read.version, language=consent.language, sha256=read.sha256),
        assurance=consent.assurance,
        lawful_basis="consent",
        services=tuple(consent.operations),
        purposes=tuple(consent.purposes),
        languages=tuple(consent.languages),
        geographic_restrictions=tuple(consent.territory),
        commercial=consent.commercial,
        valid_from=consent.valid_from,
        expires_at=consent.expires_at,
        pii_information=_PII,
        collection_method="recorded from the speaker, handed in by the PII controller",
        storage_locations=(origin,),
        retention_period=f"until {consent.expires_at.date()} at the latest, or until the speaker is erased",
        recipient_third_parties=(),
        withdrawal_method="by the link that the PII controller gives to the speaker, or by telling them; at once",
        privacy_rights=_RIGHTS,
    )


def _notice(consent: Consent) -> Notice | None:
    """Name the notice that was in force when the consent was recorded."""
    given = consent.created_at.date()
    known = [notice for notice in catalogue(consent.language).notices if notice.since <= given]
    if not known:
        return None
    shown = known[-1]
    return Notice(
        id=shown.id,
        version=shown.version,
        language=consent.language,
        sha256=shown.sha256,
        evidence="in force at the time; nothing in the log shows that the speaker saw it",
    )

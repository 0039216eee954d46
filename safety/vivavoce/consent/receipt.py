"""A consent's receipt: one signed file that says what was agreed to and how it stood, checked with public keys alone.

Its fields follow ISO/IEC TS 27560:2023 (consent record: processing, parties, events). As a signed document it carries
the log's own entries about the consent: whoever has the documents' key alone can alter neither scope nor status. It
names nobody: persons appear by identifiers only.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from vivavoce.audit.documents import LogEvidence, Part
from vivavoce.ledger.tables import ConsentStatus

SCHEMA = "ISO/IEC TS 27560:2023; vivavoce consent receipt 1"


class Wording(Part):
    """A text of the catalogue, by its digest."""

    id: str
    version: str
    language: str
    sha256: str


class Notice(Wording):
    """The privacy notice that was in force, and what shows that the speaker saw it."""

    evidence: str


class PiiInformation(Part):
    """One kind of personal data."""

    pii_type: str
    special_pii_category: str | None


class Processing(Part):
    """What may be done, why, where and for how long."""

    privacy_notice: Notice | None
    statement: Wording
    assurance: str
    lawful_basis: Literal["consent"]
    services: tuple[str, ...]
    purposes: tuple[str, ...]
    languages: tuple[str, ...]
    geographic_restrictions: tuple[str, ...]
    commercial: bool
    valid_from: AwareDatetime
    expires_at: AwareDatetime
    pii_information: tuple[PiiInformation, ...]
    collection_method: str
    storage_locations: tuple[str, ...]
    retention_period: str
    recipient_third_parties: tuple[str, ...]
    withdrawal_method: str
    privacy_rights: tuple[str, ...]


class Party(Part):
    """Who takes part."""

    party_id: str
    party_role: str
    party_name: str


class Event(Part):
    """A step in the life of the consent."""

    event_type: str
    event_time: AwareDatetime
    entity_id: str
    leaf: int


class Receipt(Part):
    """What is signed."""

    schema_version: str
    receipt_id: str
    issued_at: AwareDatetime
    record_id: str
    pii_principal_id: str
    status: ConsentStatus
    """As it was at `issued_at`."""
    pii_processing: Processing
    parties: tuple[Party, ...]
    events: tuple[Event, ...]
    log: LogEvidence

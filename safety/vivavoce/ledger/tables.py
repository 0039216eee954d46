"""The tables. Columns named `*_sealed` hold ciphertext under a subject's own key; see `envelope`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, LargeBinary, MetaData, String, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from vivavoce.ledger.tracing import TRACEPARENT_LENGTH, traceparent

ID = String(40)


def refers_to(column: str) -> ForeignKey:
    """Make a foreign key that is checked at commit: the rows of one transaction may be added in any order."""
    return ForeignKey(column, deferrable=True, initially="DEFERRED")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite forgets the zone; this puts it back, and refuses a moment without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Store as UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read back as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Operation(StrEnum):
    """What a consent can cover."""

    SPEECH = "speech"
    CONVERSION = "conversion"


class ConsentStatus(StrEnum):
    """Life of a consent. Only `verified` permits anything."""

    PENDING = "pending"
    VERIFIED = "verified"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    ERASED = "erased"


class Assurance(StrEnum):
    """How a consent was established, weakest first."""

    ATTESTED = "attested"
    FIXED_PHRASE = "fixed-phrase"
    CHALLENGE = "challenge"


class JobKind(StrEnum):
    """What a worker is asked to do."""

    SPEECH = "speech"
    CONVERSION = "conversion"
    DETECTION = "detection"
    VERIFICATION = "verification"


class JobStatus(StrEnum):
    """Life of a job. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether a job in this state can never change again."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class JobStage(StrEnum):
    """How far a worker has come with a running speech or conversion job."""

    MAKING = "making"
    MARKING = "marking"


class Base(DeclarativeBase):
    """Base of all tables."""

    # Every constraint has a name, so that a migration can drop it on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        datetime: UtcDateTime(),
        bytes: LargeBinary(),
        list[str]: JSON(),
        dict[str, Any]: JSON(),
    }


class Tenant(Base):
    """A customer: the grantee of consents and the owner of voices, keys and jobs."""

    __tablename__ = "tenant"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    profile: Mapped[str] = mapped_column(String(8), default="max", server_default="max")
    """Compliance profile, of `policy/profiles`."""
    least_assurance: Mapped[str | None] = mapped_column(String(16))
    """What this tenant asks of consents beyond its profile."""


class ApiKey(Base):
    """An API key: only its prefix and its HMAC are kept."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(24))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Subject(Base):
    """A person whose voice is spoken of. Destroying `wrapped_key` makes all that is sealed under it unreadable."""

    __tablename__ = "subject"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    wrapped_key: Mapped[bytes | None]
    created_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class Consent(Base):
    """A subject's word to one tenant, with its scope and its evidence."""

    __tablename__ = "consent"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    name_sealed: Mapped[bytes]
    statement_id: Mapped[str] = mapped_column(String(80))
    statement_version: Mapped[str] = mapped_column(String(20))
    language: Mapped[str] = mapped_column(String(20))
    operations: Mapped[list[str]]
    purposes: Mapped[list[str]]
    languages: Mapped[list[str]]
    territory: Mapped[list[str]]
    commercial: Mapped[bool]
    valid_from: Mapped[datetime]
    expires_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16))
    assurance: Mapped[str] = mapped_column(String(16))
    recording_key: Mapped[str] = mapped_column(String(200))
    recording_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None] = mapped_column(String(500))
    leaf_index: Mapped[int | None]
    renews: Mapped[str | None] = mapped_column(refers_to("consent.id"))
    """The earlier consent whose voices this one has taken over."""
    suspended_by: Mapped[str | None] = mapped_column(String(8))
    """`tenant` or `admin`: only an admin lifts what an admin has suspended."""
    guardian_sealed: Mapped[bytes | None]
    """Name of who consented for a minor."""
    guardian_relationship: Mapped[str | None] = mapped_column(String(20))
    guardian_assurance: Mapped[str | None] = mapped_column(String(16))
    purged_at: Mapped[datetime | None]
    """When its recordings were deleted because their time was over."""


class Voice(Base):
    """A voice that may be spoken with: reference clips bound to one consent."""

    __tablename__ = "voice"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    consent_id: Mapped[str] = mapped_column(refers_to("consent.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    standing: Mapped[str] = mapped_column(String(8), default="checking", server_default="ready")
    """`checking` until its speaker was compared, then `ready`, `review` or `refused`; see `policy/likeness`."""


class ReferenceClip(Base):
    """One recording that a voice is made of."""

    __tablename__ = "reference_clip"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    voice_id: Mapped[str] = mapped_column(refers_to("voice.id"), index=True)
    object_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    seconds: Mapped[float]
    transcript_sealed: Mapped[bytes]


class Job(Base):
    """One piece of work. This row is the truth about it; the broker is only a doorbell."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("ix_job_status_lease", "status", "lease_expires_at"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    api_key_id: Mapped[str] = mapped_column(refers_to("api_key.id"))
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    voice_id: Mapped[str | None] = mapped_column(refers_to("voice.id"))
    consent_id: Mapped[str | None] = mapped_column(refers_to("consent.id"), index=True)
    subject_id: Mapped[str | None] = mapped_column(refers_to("subject.id"))
    purpose: Mapped[str | None] = mapped_column(String(40))
    grant_token: Mapped[str | None] = mapped_column(String(4000))
    request_key: Mapped[str] = mapped_column(String(200))
    """Object that holds the sealed request (JSON)."""
    input_key: Mapped[str | None] = mapped_column(String(200))
    """Object that holds the sealed input sound of a conversion or detection."""
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Digest of request and input before sealing; the grant binds it."""
    format: Mapped[str | None] = mapped_column(String(8))
    attempt: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(String(16))
    """How far the attempt that runs has come; None while nobody works on the job."""
    lease_owner: Mapped[str | None] = mapped_column(String(120))
    lease_expires_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(60))
    error_detail: Mapped[str | None] = mapped_column(String(1000))
    result: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    intent_leaf: Mapped[int]
    outcome_leaf: Mapped[int | None]
    purged_at: Mapped[datetime | None]
    """When request and input were deleted because their time was over."""
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH), default=traceparent)
    """Where the trace of the request that made it goes on."""


class Output(Base):
    """One sound that left through the door, and what is needed to recognise it again."""

    __tablename__ = "output"
    __table_args__ = (Index("ix_output_mark_identity", "mark_identity", unique=True),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(refers_to("job.id"), unique=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    voice_id: Mapped[str] = mapped_column(refers_to("voice.id"), index=True)
    consent_id: Mapped[str] = mapped_column(refers_to("consent.id"), index=True)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    format: Mapped[str] = mapped_column(String(8))
    media_type: Mapped[str] = mapped_column(String(60))
    sample_rate: Mapped[int]
    seconds: Mapped[float]
    mark_identity: Mapped[int | None] = mapped_column(BigInteger)
    """What the mark says: 48 bits that no other output has. None for marks of the first kind, which named nobody."""
    mark_score: Mapped[float]
    mark_strength: Mapped[float]
    model_id: Mapped[str] = mapped_column(String(120))
    object_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    """Digest of the bytes that are served."""
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]
    withheld_at: Mapped[datetime | None]
    withheld_reason: Mapped[str | None] = mapped_column(String(60))
    deleted_at: Mapped[datetime | None]
    """When its sound was deleted, at the speaker's word or because its time was over. The row stays for its proof."""


class AuditLeaf(Base):
    """One entry of the log (RFC 6962 leaf). The database refuses to change or delete it."""

    __tablename__ = "audit_leaf"

    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]
    """The entry in canonical JSON (RFC 8785); no personal data."""
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    tag: Mapped[str] = mapped_column(String(40), index=True)
    tenant_id: Mapped[str | None] = mapped_column(ID, index=True)
    created_at: Mapped[datetime]


class AuditNode(Base):
    """Hash of a complete subtree: `2**level` leaves from `index * 2**level` on."""

    __tablename__ = "audit_node"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditCheckpoint(Base):
    """A signed head of the log (C2SP tlog-checkpoint)."""

    __tablename__ = "audit_checkpoint"

    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary(32))
    note: Mapped[str] = mapped_column(String(2000))
    created_at: Mapped[datetime]


class AuditPayload(Base):
    """The personal part of an entry, sealed; the leaf carries only a salted commitment to it."""

    __tablename__ = "audit_payload"

    leaf_index: Mapped[int] = mapped_column(refers_to("audit_leaf.index"), primary_key=True, autoincrement=False)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    sealed: Mapped[bytes]

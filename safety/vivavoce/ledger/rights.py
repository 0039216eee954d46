"""More tables: what a speaker's rights, and the protection of people who never spoke here, are kept in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from vivavoce.ledger.tables import ID, Base, refers_to


class SubjectLink(Base):
    """A speaker's own way in, without an account: only an HMAC of its token is kept."""

    __tablename__ = "subject_link"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class DoomedObject(Base):
    """An object that must be deleted from the store; the row goes once it is. It outlives every crash in between."""

    __tablename__ = "doomed_object"

    object_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    why: Mapped[str] = mapped_column(String(16))
    """`erased` or `retention`."""
    created_at: Mapped[datetime]


class VoicePrint(Base):
    """A voice's speaker vector, to find look-alikes with: biometric data, sealed under the subject's key."""

    __tablename__ = "voice_print"

    voice_id: Mapped[str] = mapped_column(refers_to("voice.id"), primary_key=True)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    model: Mapped[str] = mapped_column(String(120))
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class ProtectedVoice(Base):
    """Somebody whose voice must not be cloned. All that tells who is sealed under the installation's key."""

    __tablename__ = "protected_voice"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    model: Mapped[str] = mapped_column(String(120))
    sealed: Mapped[bytes]
    """The speaker vector, float32 little-endian."""
    note_sealed: Mapped[bytes]
    """Name and reason (JSON)."""
    added_by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class Review(Base):
    """A question that a person must answer: may this voice be used, although it sounds like that one?"""

    __tablename__ = "review"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    voice_id: Mapped[str] = mapped_column(refers_to("voice.id"), unique=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    protected_id: Mapped[str | None] = mapped_column(refers_to("protected_voice.id"))
    other_voice_id: Mapped[str | None] = mapped_column(refers_to("voice.id"))
    similarity: Mapped[float]
    threshold: Mapped[float]
    model: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime]
    decision: Mapped[str | None] = mapped_column(String(8))
    """`approve` or `refuse`."""
    reason_sealed: Mapped[bytes | None]
    decided_by: Mapped[str | None] = mapped_column(String(120))
    decided_at: Mapped[datetime | None]


class TextReview(Base):
    """A text that met a rule, and that an admin must read before it may be spoken."""

    __tablename__ = "text_review"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """HMAC of tenant and text: by it the same text is known again."""
    sealed: Mapped[bytes]
    """The text under the installation's key; empty once it was decided."""
    rules: Mapped[list[str]]
    created_at: Mapped[datetime]
    decision: Mapped[str | None] = mapped_column(String(8))
    """`approve` or `refuse`."""
    reason_sealed: Mapped[bytes | None]
    decided_by: Mapped[str | None] = mapped_column(String(120))
    decided_at: Mapped[datetime | None]


class Challenge(Base):
    """A statement that one speaker was asked to read: with one-time words, for a few minutes, for one recording."""

    __tablename__ = "challenge"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    language: Mapped[str] = mapped_column(String(20))
    statement_version: Mapped[str] = mapped_column(String(20))
    notice_version: Mapped[str] = mapped_column(String(20))
    sealed: Mapped[bytes]
    """Name, scope and text (JSON) under the installation's key; empty once it was used or its time is over."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Verification(Base):
    """What was found out about the recording of a consent, and by which measure it was judged."""

    __tablename__ = "verification"

    consent_id: Mapped[str] = mapped_column(refers_to("consent.id"), primary_key=True)
    job_id: Mapped[str] = mapped_column(refers_to("job.id"), unique=True)
    challenge_id: Mapped[str] = mapped_column(refers_to("challenge.id"), unique=True)
    text_sealed: Mapped[bytes]
    """The very text that was shown (JSON, with its words), under the subject's key."""
    transcript_sealed: Mapped[bytes | None]
    verdict: Mapped[str | None] = mapped_column(String(8))
    """`accepted`, `again` or `refused`; none while it is not decided."""
    reasons: Mapped[list[str]]
    measures: Mapped[dict[str, Any]]
    thresholds: Mapped[dict[str, Any]]
    models: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class Invitation(Base):
    """A speaker's way to a challenge, in their own browser: only an HMAC of its token is kept."""

    __tablename__ = "invitation"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    api_key_id: Mapped[str] = mapped_column(refers_to("api_key.id"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    sealed: Mapped[bytes]
    """Name and scope (JSON) under the installation's key; empty once it is closed or its time is over."""
    attempts: Mapped[int]
    """Challenges that were drawn by it."""
    consent_id: Mapped[str | None] = mapped_column(refers_to("consent.id"))
    """What came of the last recording."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]

"""Sounds that leave while they are being made: whose mark is in them, and the chunks on their way to who asked."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from vivavoce.ledger.tables import ID, Base, refers_to


class OutputStream(Base):
    """A sound of which something may have left before it was whole. It says whose the mark in it is, whether the sound
    came to its end, and with that to an output of the same id, or not."""

    __tablename__ = "output_stream"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(refers_to("job.id"), unique=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    voice_id: Mapped[str] = mapped_column(refers_to("voice.id"))
    consent_id: Mapped[str] = mapped_column(refers_to("consent.id"), index=True)
    subject_id: Mapped[str] = mapped_column(refers_to("subject.id"), index=True)
    format: Mapped[str] = mapped_column(String(8))
    media_type: Mapped[str] = mapped_column(String(60))
    mark_identity: Mapped[int] = mapped_column(BigInteger, unique=True)
    opened_at: Mapped[datetime]
    leaf_index: Mapped[int]
    """The entry of the log that came before the first chunk."""


class OutputChunk(Base):
    """The next bytes of a stream, sealed under the subject's key. Deleted soon after its job has ended."""

    __tablename__ = "output_chunk"

    stream_id: Mapped[str] = mapped_column(refers_to("output_stream.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]
    size_bytes: Mapped[int]
    seconds: Mapped[float]
    taken_at: Mapped[datetime | None]
    """When it was handed out; none of it left the house before."""

"""More tables: requests that came together. Each of them is a job of its own, or a refusal of its own."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from vivavoce.ledger.tables import ID, Base, refers_to


class Batch(Base):
    """What a tenant asked for at once."""

    __tablename__ = "batch"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(refers_to("tenant.id"), index=True)
    size: Mapped[int]
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Digest of the body, so that a key is not used for another one."""
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime]


class BatchItem(Base):
    """One request of a batch, once it was let in or refused: written in the same transaction."""

    __tablename__ = "batch_item"

    batch_id: Mapped[str] = mapped_column(refers_to("batch.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    custom_id: Mapped[str | None] = mapped_column(String(64))
    """The caller's own name for it."""
    job_id: Mapped[str | None] = mapped_column(refers_to("job.id"), index=True)
    error_code: Mapped[str | None] = mapped_column(String(60))
    error_detail: Mapped[str | None] = mapped_column(String(1000))

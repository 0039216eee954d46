"""More tables: who works at the console, and who is logged in there."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from vivavoce.ledger.tables import ID, Base, refers_to


class Role(StrEnum):
    """What an account may do."""

    ADMIN = "admin"
    """Everything that the console can."""
    REVIEWER = "reviewer"
    """Read, hear recordings, and decide reviews."""
    AUDITOR = "auditor"
    """Read, and nothing else."""


class Account(Base):
    """Somebody who works at the console. Its name stands in the log as `operator:<name>`."""

    __tablename__ = "account"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(200))
    """Argon2id in PHC form; None for accounts that log in elsewhere."""
    external: Mapped[str | None] = mapped_column(String(600), unique=True)
    """Issuer and subject of an OpenID Connect login."""
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class Login(Base):
    """One login of an account, until it is left or its time is over: only a digest of its token is kept."""

    __tablename__ = "login"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(refers_to("account.id"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]

"""What an API host needs to know beyond the shared settings."""

from __future__ import annotations

from pydantic import Field

from vivavoce.ledger.settings import CoreSettings


class ApiSettings(CoreSettings):
    """Settings of an API process, from `VIVAVOCE_*` variables."""

    wait_seconds: float = Field(default=120.0, gt=0, le=3600)
    """How long a request waits for its job; the job itself goes on afterwards."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=64 * 1024)
    """Largest request body, uploads included."""
    max_upload_seconds: float = Field(default=600.0, gt=0)
    """Longest sound that may be sent for conversion or detection."""
    requests_per_minute: int = Field(default=300, ge=1)
    """Requests that one API key may make in a minute."""
    refusals_per_minute: int = Field(default=30, ge=1)
    """Wrong keys that one address may try in a minute, so that guessing can't flood the log."""
    public_detections_per_minute: int = Field(default=6, ge=0)
    """Sounds that one address may have looked at in a minute without a key; 0 closes the public page."""
    public_max_seconds: float = Field(default=300.0, gt=0)
    """Longest sound that may be sent without a key."""

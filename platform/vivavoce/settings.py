"""What an API host needs to know beyond the shared settings."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from vivavoce.ledger.accounts import Role
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
    metrics_token: SecretStr | None = Field(default=None, min_length=16)
    """Bearer token that opens `/metrics`; without one only the machine itself may read them."""
    oidc_issuer: str = ""
    """OpenID Connect provider through which operators may log in to the console; empty for none."""
    oidc_client_id: str = ""
    """What the provider knows this installation as."""
    oidc_client_secret: SecretStr | None = None
    """The secret that the provider gave to it."""
    oidc_role_claim: str = "roles"
    """Claim of the ID token (a text, or a list of them) that says what somebody may do."""
    oidc_roles: dict[str, Role] = Field(default={})
    """Roles by the claim's values, as JSON: `{"voice-admins": "admin"}`. Who has none of them is not let in."""

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_client_secret and self.oidc_roles):
            raise ValueError("VIVAVOCE_OIDC_ISSUER needs VIVAVOCE_OIDC_CLIENT_ID, _CLIENT_SECRET and _ROLES too")
        return self

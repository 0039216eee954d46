"""What an API key may be allowed to do."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One right. `admin` sees the whole log; it does not imply the others."""

    CONSENTS_WRITE = "consents:write"
    CONSENTS_READ = "consents:read"
    VOICES_WRITE = "voices:write"
    VOICES_READ = "voices:read"
    SPEECH = "speech"
    CONVERSION = "conversion"
    DETECT = "detect"
    JOBS_READ = "jobs:read"
    WEBHOOKS = "webhooks"
    AUDIT_READ = "audit:read"
    ADMIN = "admin"

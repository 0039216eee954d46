"""The words of the log. Every entry carries one of these tags; there are no others.

Grammar: `subject:action`. The subject is a thing of the glossary, the action says what was done to it.
`create`, `update`, `revoke`, `delete`, `erase`, `read`: done, in the same transaction as the change itself.
`export`: leaves the house, as a file or as published tiles; written before the first byte of it is.
`suspend`, `lift`: a consent is put out of force for a while, and back. `decide`: a person answered a review.
`refuse`: asked for and not done; the entry's facts carry the error code.
`intent`: will be tried; written before the work begins. `outcome`: how it ended; written before any delivery.
"""

from __future__ import annotations

from enum import StrEnum


class Tag(StrEnum):
    """What an entry says."""

    TENANT_CREATE = "tenant:create"
    TENANT_UPDATE = "tenant:update"
    KEY_CREATE = "key:create"
    KEY_REVOKE = "key:revoke"
    AUTH_REFUSE = "auth:refuse"

    CONSENT_CREATE = "consent:create"
    CONSENT_READ = "consent:read"
    CONSENT_UPDATE = "consent:update"
    CONSENT_REFUSE = "consent:refuse"
    CONSENT_REVOKE = "consent:revoke"
    CONSENT_SUSPEND = "consent:suspend"
    CONSENT_LIFT = "consent:lift"
    SUBJECT_READ = "subject:read"
    SUBJECT_EXPORT = "subject:export"
    SUBJECT_ERASE = "subject:erase"
    LINK_CREATE = "link:create"
    LINK_REVOKE = "link:revoke"

    VOICE_CREATE = "voice:create"
    VOICE_REFUSE = "voice:refuse"
    VOICE_DELETE = "voice:delete"
    REVIEW_CREATE = "review:create"
    REVIEW_READ = "review:read"
    REVIEW_DECIDE = "review:decide"
    PROTECTED_CREATE = "protected:create"
    PROTECTED_READ = "protected:read"
    PROTECTED_DELETE = "protected:delete"

    JOB_INTENT = "job:intent"
    JOB_REFUSE = "job:refuse"
    JOB_OUTCOME = "job:outcome"
    DETECT_INTENT = "detect:intent"
    DETECT_OUTCOME = "detect:outcome"

    OUTPUT_DELIVER = "output:deliver"
    OUTPUT_WITHHOLD = "output:withhold"
    OUTPUT_ERASE = "output:erase"
    OBJECT_DELETE = "object:delete"

    LOG_READ = "log:read"
    LOG_EXPORT = "log:export"

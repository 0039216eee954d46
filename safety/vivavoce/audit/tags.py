"""The words of the log. Every entry carries one of these tags; there are no others.

Grammar: `subject:action`. The subject is a thing of the glossary, the action says what was done to it.
`create`, `update`, `revoke`, `delete`, `erase`, `read`: done, in the same transaction as the change itself.
`export`: leaves the house, as a file or as published tiles; written before the first byte of it is.
`open`: begins to leave the house, chunk by chunk; written before the first chunk of it can be had.
`suspend`, `lift`: a consent is put out of force for a while, and back. `decide`: a person answered a review.
`purge`: what was recorded is deleted, because the time for which it may be kept is over.
`refuse`: asked for and not done; the entry's facts carry the error code.
`rotate`: a secret key of the installation is replaced, written before it is; `retire`: old ones are forgotten.
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
    ACCOUNT_CREATE = "account:create"
    ACCOUNT_UPDATE = "account:update"
    LOGIN_CREATE = "login:create"
    LOGIN_DELETE = "login:delete"
    LEDGER_READ = "ledger:read"
    KEY_READ = "key:read"
    TENANT_READ = "tenant:read"

    CONSENT_CREATE = "consent:create"
    CONSENT_READ = "consent:read"
    CONSENT_UPDATE = "consent:update"
    CONSENT_REFUSE = "consent:refuse"
    CONSENT_REVOKE = "consent:revoke"
    CONSENT_SUSPEND = "consent:suspend"
    CONSENT_LIFT = "consent:lift"
    CONSENT_PURGE = "consent:purge"
    INVITATION_CREATE = "invitation:create"
    CHALLENGE_CREATE = "challenge:create"
    CHALLENGE_REFUSE = "challenge:refuse"
    VERIFY_INTENT = "verify:intent"
    VERIFY_OUTCOME = "verify:outcome"
    RECORDING_READ = "recording:read"
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

    WEBHOOK_CREATE = "webhook:create"
    WEBHOOK_DELETE = "webhook:delete"

    STREAM_OPEN = "stream:open"
    OUTPUT_READ = "output:read"
    OUTPUT_DELIVER = "output:deliver"
    OUTPUT_WITHHOLD = "output:withhold"
    OUTPUT_ERASE = "output:erase"
    OBJECT_DELETE = "object:delete"

    LOG_READ = "log:read"
    LOG_EXPORT = "log:export"
    LEDGER_BACKUP = "ledger:backup"
    LEDGER_ROTATE = "ledger:rotate"
    LEDGER_RETIRE = "ledger:retire"

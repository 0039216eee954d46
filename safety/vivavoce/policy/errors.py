"""What can go wrong at admission."""

from __future__ import annotations


class PolicyRefused(Exception):
    """A request is not let in, whatever any consent says.

    Codes: text_empty, text_too_long, text_control_characters, text_blocked, text_needs_review, unknown_purpose,
    unknown_format, request_malformed, idempotency_key_malformed, idempotency_key_reused, idempotency_key_in_use,
    job_not_retryable, unknown_webhook, url_not_allowed, address_not_public, secret_malformed, too_many_webhooks.

    Attributes:
        code: A stable word for programs.
        detail: One sentence for people; no personal data.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

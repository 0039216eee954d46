"""What can go wrong with consent."""

from __future__ import annotations


class ConsentError(Exception):
    """Base of this area's errors.

    Attributes:
        code: A stable word for programs, such as `consent_revoked`.
        detail: One sentence for people; no personal data.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ConsentInvalid(ConsentError):
    """A consent that cannot be recorded as asked.

    Codes: name_empty, name_too_long, name_control_characters, scope_empty, scope_malformed, lifetime_out_of_range,
    purpose_refused, statement_unknown, recording_is_generated.
    """


class ConsentRefused(ConsentError):
    """No consent covers what was asked.

    Codes: unknown_consent, unknown_voice, voice_deleted, voice_review, voice_refused, consent_pending,
    consent_rejected, consent_suspended, consent_revoked, consent_expired, consent_erased, consent_not_yet_valid,
    operation_not_covered, purpose_not_covered, language_not_covered, territory_not_covered, commercial_not_covered,
    assurance_too_low, purpose_refused, unknown_challenge, challenge_used, challenge_expired.
    """


class LinkRefused(ConsentError):
    """A subject link opens nothing. Codes, for the log alone: link_unknown, link_expired, link_revoked."""


class GrantRefused(ConsentError):
    """A grant does not permit this job.

    Codes: grant_forged (not signed by us, or not a grant), grant_expired (outside its time), grant_mismatch (for
    another job or another request).
    """

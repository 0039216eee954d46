"""Consent: who may speak with whose voice, for what, until when; and the grants that say so to workers."""

from vivavoce.consent.errors import ConsentError, ConsentInvalid, ConsentRefused, GrantRefused
from vivavoce.consent.scope import Purpose, Scope

__all__ = ["ConsentError", "ConsentInvalid", "ConsentRefused", "GrantRefused", "Purpose", "Scope"]

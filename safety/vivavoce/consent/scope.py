"""What a consent covers: operations, purposes, languages, territory, and for how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from vivavoce.consent.errors import ConsentInvalid
from vivavoce.ledger.tables import Operation

DEFAULT_LIFETIME = timedelta(days=365)
LONGEST_LIFETIME = timedelta(days=3652)
"""Ten years."""
LONGEST_MINORS_LIFETIME = timedelta(days=1826)
"""Five years."""

# Enough of BCP 47 (RFC 5646) for language, script and region; ISO 3166-1 alpha-2 for countries.
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?")
_COUNTRY = re.compile(r"[A-Z]{2}")


class Purpose(StrEnum):
    """What a sound is made for. One purpose never covers another: `general` is not `any`."""

    GENERAL = "general"
    ASSISTIVE = "assistive"
    AUDIOBOOK = "audiobook"
    EDUCATION = "education"
    ENTERTAINMENT = "entertainment"
    CUSTOMER_SERVICE = "customer_service"
    ADVERTISING = "advertising"
    RESEARCH = "research"


@dataclass(frozen=True)
class Scope:
    """The bounds of a consent.

    Raises:
        ConsentInvalid: Nothing is covered, a language or country is not a code, or the lifetime is not within
            (0, `LONGEST_LIFETIME`].
    """

    operations: frozenset[Operation] = frozenset(Operation)
    purposes: frozenset[Purpose] = frozenset({Purpose.GENERAL})
    languages: tuple[str, ...] = ()
    """BCP 47 tags that may be spoken; none: any language. `en` covers `en-GB`."""
    territory: tuple[str, ...] = ()
    """Countries (ISO 3166-1) where it may be used; none: everywhere. A request must name one of them."""
    commercial: bool = False
    """Whether it may earn money. A request that says it will is refused otherwise."""
    lifetime: timedelta = DEFAULT_LIFETIME

    def __post_init__(self) -> None:
        if not self.operations or not self.purposes:
            raise ConsentInvalid("scope_empty", "a consent covers at least one operation and one purpose")
        if not all(_LANGUAGE.fullmatch(tag) for tag in self.languages):
            raise ConsentInvalid("scope_malformed", "languages are BCP 47 tags such as en or pt-BR")
        if not all(_COUNTRY.fullmatch(code) for code in self.territory):
            raise ConsentInvalid("scope_malformed", "territory lists ISO 3166-1 codes such as DE")
        if not timedelta(0) < self.lifetime <= LONGEST_LIFETIME:
            raise ConsentInvalid("lifetime_out_of_range", f"a consent lasts 1 to {LONGEST_LIFETIME.days} days")


def covers_language(allowed: list[str], language: str | None) -> bool:
    """Whether a language tag falls under one of those allowed (basic filtering, RFC 4647 section 3.3.1).

    Where a consent names languages, a request that names none is not covered.
    """
    if not allowed:
        return True
    if language is None:
        return False
    asked = language.lower()
    return any(asked == tag.lower() or asked.startswith(f"{tag.lower()}-") for tag in allowed)

"""Compliance profiles: what the law where a tenant works asks for, as data. No legal advice; see docs/compliance.md.

A profile can switch on what an installation does beyond its promises, and shorten what it permits. It can switch off
nothing: every sound is marked, signed, labelled and logged under each.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.scope import Purpose, Scope
from vivavoce.ledger.tables import Assurance, Tenant

Name = Literal["max", "eu", "us", "cn", "in"]
STRICTEST: Name = "max"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Profile(_Strict):
    """What is asked of a tenant's requests."""

    disclosure: bool
    """Whether each sound begins by saying that its voice is artificial."""
    least_assurance: Assurance
    """How well a consent must be established before anything is made under it."""
    longest_days: int = Field(ge=1, le=3652)
    """How long a consent may be given for."""
    kept_days: int = Field(ge=1)
    """How long sounds that were made, and what was asked for, are kept."""
    purposes_refused: frozenset[Purpose]
    why: str = Field(min_length=20)
    """Sources."""

    @property
    def kept(self) -> timedelta:
        """How long outputs and requests are kept."""
        return timedelta(days=self.kept_days)


class _File(_Strict):
    schema_version: Literal[1] = Field(alias="schema")
    max: Profile
    eu: Profile
    us: Profile
    cn: Profile
    in_: Profile = Field(alias="in")

    @model_validator(mode="after")
    def _max_is_strictest(self) -> Self:
        most = self.max
        for other in (self.eu, self.us, self.cn, self.in_):
            mild = other.disclosure and not most.disclosure
            mild |= other.longest_days < most.longest_days or other.kept_days < most.kept_days
            if mild or other.purposes_refused - most.purposes_refused:
                raise ValueError("no profile is stricter than max")
        return self


def profile(name: str) -> Profile:
    """Give a profile by its name; raises `ValueError`."""
    found = _read().get(name)
    if found is None:
        raise ValueError(f"there is no compliance profile {name!r}; there are {', '.join(_read())}")
    return found


def profile_of(session: Session, tenant_id: str) -> Profile:
    """Give a tenant's profile, with what the tenant itself asks for beyond it; the strictest for nobody's."""
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        return profile(STRICTEST)
    found = profile(tenant.profile)
    own = tenant.least_assurance
    if own is not None and weaker(found.least_assurance, own):
        return found.model_copy(update={"least_assurance": Assurance(own)})
    return found


def require_permitted(rules: Profile, scope: Scope) -> None:
    """Check what a consent shall cover; raises `ConsentInvalid`: lifetime_out_of_range or purpose_refused."""
    if scope.lifetime > timedelta(days=rules.longest_days):
        raise ConsentInvalid("lifetime_out_of_range", f"the compliance profile allows {rules.longest_days} days")
    refused = sorted(scope.purposes & rules.purposes_refused)
    if refused:
        raise ConsentInvalid("purpose_refused", f"the compliance profile refuses the purpose {refused[0]}")


def weaker(one: str, other: str) -> bool:
    """Whether an assurance is weaker than another."""
    order = [str(each) for each in Assurance]  # weakest first
    return order.index(one) < order.index(other)


@cache
def _read() -> dict[str, Profile]:
    data = (files("vivavoce.consent") / "profiles.json").read_bytes()
    whole = _File.model_validate_json(data)
    return {"max": whole.max, "eu": whole.eu, "us": whole.us, "cn": whole.cn, "in": whole.in_}

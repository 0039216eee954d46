"""Grants: short-lived signed permits, one a job (compact JWS, RFC 7515, Ed25519 as in RFC 8037 and RFC 9864).

A worker takes its orders from a job row and a grant that agree. Whoever can only write rows cannot make a worker
speak: the signature binds voice, purpose and the digest of the very request.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from vivavoce.consent.errors import GrantRefused
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Job

TTL = timedelta(minutes=15)
"""How long a grant is good for from admission; a job that waits longer is refused."""

_ALGORITHM = "Ed25519"
_HEADER = {"alg": _ALGORITHM, "typ": "vivavoce-grant"}
_TIMES = ("issued_at", "expires_at")
_TYPES = dict.fromkeys(_TIMES, int) | {"commercial": bool}
_OPTIONAL = ("language", "territory")


@dataclass(frozen=True)
class Grant:
    """What one job may do."""

    job_id: str
    tenant_id: str
    voice_id: str
    consent_id: str
    subject_id: str
    operation: str
    purpose: str
    language: str | None
    """Language that will be spoken, where the request named it."""
    territory: str | None
    """Country in which it will be used, where the request named it."""
    commercial: bool
    request_sha256: str
    issued_at: datetime
    expires_at: datetime


def sign(grant: Grant, keyring: KeyRing) -> str:
    """Sign a grant; returns a compact JWS. Times are kept to the second (RFC 7519 NumericDate)."""
    claims = asdict(grant) | {name: int(getattr(grant, name).timestamp()) for name in _TIMES}
    payload = json.dumps(claims, sort_keys=True, separators=(",", ":")).encode()
    return jws.serialize_compact(dict(_HEADER), payload, OKPKey.import_key(keyring.grant_signer), [_ALGORITHM])


def verify(token: str, keyring: KeyRing, now: datetime) -> Grant:
    """Check a grant's signature, kind and time.

    Raises:
        GrantRefused: `grant_forged` or `grant_expired`.
    """
    grant = read(token, keyring)
    if not grant.issued_at <= now < grant.expires_at:
        raise GrantRefused("grant_expired", "the grant is not valid at this time; send the request again")
    return grant


def read(token: str, keyring: KeyRing) -> Grant:
    """Check a grant's signature and kind, whatever the time is.

    Raises:
        GrantRefused: `grant_forged`.
    """
    try:
        opened = _opened(token, keyring)
        # Equality, not membership: no other algorithm, no other kind of token, no `crit`, no key of its own.
        if opened.headers() != _HEADER:
            raise GrantRefused("grant_forged", "the token is signed, but is not a grant")
        return _from_claims(json.loads(opened.payload or b""))
    except (JoseError, ValueError, TypeError, OverflowError) as error:
        raise GrantRefused("grant_forged", "the grant's signature or form is wrong") from error


def _opened(token: str, keyring: KeyRing) -> jws.CompactSignature:
    *others, last = keyring.grant_verifiers
    for key in others:
        with suppress(JoseError):
            return jws.deserialize_compact(token, OKPKey.import_key(key), [_ALGORITHM])
    return jws.deserialize_compact(token, OKPKey.import_key(last), [_ALGORITHM])


def require_match(grant: Grant, job: Job) -> None:
    """Check that a grant was given for this job as it stands.

    Raises:
        GrantRefused: `grant_mismatch`.
    """
    granted = (grant.job_id, grant.tenant_id, grant.voice_id, grant.consent_id, grant.subject_id)
    asked = (job.id, job.tenant_id, job.voice_id, job.consent_id, job.subject_id)
    if (*granted, grant.operation, grant.purpose, grant.request_sha256) != (
        *asked,
        job.kind,
        job.purpose,
        job.request_sha256,
    ):
        raise GrantRefused("grant_mismatch", "the grant was given for another job or another request")


def _from_claims(claims: object) -> Grant:
    if not isinstance(claims, dict) or set(claims) != {field.name for field in fields(Grant)}:
        raise ValueError("not the claims of a grant")
    for name, value in claims.items():
        if type(value) is not _TYPES.get(name, str) and not (name in _OPTIONAL and value is None):
            raise ValueError("a claim of a grant is of another type")
    return Grant(**claims | {name: datetime.fromtimestamp(claims[name], UTC) for name in _TIMES})

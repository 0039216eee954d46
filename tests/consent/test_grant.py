"""A grant cannot be forged, stretched, or used for another job."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey
from tests.consent.world import NOW, World

from vivavoce.consent import GrantRefused
from vivavoce.consent.grant import TTL, Grant, require_match, sign, verify
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Job

HEADER = {"alg": "Ed25519", "typ": "vivavoce-grant"}
GRANT = Grant(
    job_id="job_1",
    tenant_id="ten_1",
    voice_id="voice_1",
    consent_id="cons_1",
    subject_id="sub_1",
    operation="speech",
    purpose="general",
    language=None,
    territory=None,
    commercial=False,
    request_sha256="0" * 64,
    issued_at=NOW,
    expires_at=NOW + TTL,
)


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    return {**GRANT.__dict__, "issued_at": int(NOW.timestamp()), "expires_at": int((NOW + TTL).timestamp())} | changes


def signed(keyring: KeyRing, header: dict[str, Any], payload: Any) -> str:
    """Sign anything with the right key, as a bug elsewhere or a confused deputy might."""
    body = f"{encoded(header)}.{encoded(payload)}"
    return f"{body}.{encoded(keyring.grant_signer.sign(body.encode()))}"


def refused(token: str, keyring: KeyRing) -> str:
    with pytest.raises(GrantRefused) as caught:
        verify(token, keyring, NOW)
    return caught.value.code


def test_a_grant_comes_back_as_it_was_given(keyring: KeyRing) -> None:
    assert verify(sign(GRANT, keyring), keyring, NOW) == GRANT
    other = replace(GRANT, language="en-GB")
    assert verify(sign(other, keyring), keyring, NOW) == other
    assert verify(signed(keyring, HEADER, claims()), keyring, NOW) == GRANT


def test_a_grant_is_good_for_15_minutes(keyring: KeyRing) -> None:
    token = sign(GRANT, keyring)
    assert timedelta(minutes=15) == TTL
    assert verify(token, keyring, NOW + TTL - timedelta(microseconds=1))
    for moment in (NOW + TTL, NOW - timedelta(seconds=1), NOW + timedelta(days=400)):
        with pytest.raises(GrantRefused, match="grant_expired"):
            verify(token, keyring, moment)


def test_another_key_signs_in_vain(keyring: KeyRing, tmp_path: Path) -> None:
    stranger = KeyRing.open(tmp_path / "keys", create=True)
    assert refused(sign(GRANT, stranger), keyring) == "grant_forged"


def test_no_algorithm_but_the_pinned_one_is_listened_to(keyring: KeyRing) -> None:
    """The classic attacks on JOSE: none, the public key as an HMAC secret, and an algorithm by another name."""
    body = encoded(claims())
    public = keyring.grant_verifier.public_bytes_raw()
    assert refused(f"{encoded(HEADER | {'alg': 'none'})}.{body}.", keyring) == "grant_forged"
    assert refused(f"{encoded(HEADER)}.{body}.", keyring) == "grant_forged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the secret is short is the attacker's concern
        confused = jws.serialize_compact(HEADER | {"alg": "HS256"}, json.dumps(claims()), OctKey.import_key(public))
    assert refused(confused, keyring) == "grant_forged"
    assert refused(signed(keyring, HEADER | {"alg": "EdDSA"}, claims()), keyring) == "grant_forged"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "Ed25519"},
        HEADER | {"typ": "JWT"},
        HEADER | {"typ": "VIVAVOCE-GRANT"},
        HEADER | {"kid": "1"},
        HEADER | {"crit": ["exp"], "exp": 1},
        HEADER | {"b64": False, "crit": ["b64"]},
    ],
)
def test_what_is_signed_but_is_no_grant_is_refused(keyring: KeyRing, header: dict[str, Any]) -> None:
    """Our key may come to sign other things one day; none of them is a grant."""
    assert refused(signed(keyring, header, claims()), keyring) == "grant_forged"


def test_a_key_that_the_token_brings_along_is_not_believed(keyring: KeyRing, tmp_path: Path) -> None:
    stranger = KeyRing.open(tmp_path / "keys", create=True)
    jwk = OKPKey.import_key(stranger.grant_verifier).as_dict(private=False)
    assert refused(signed(stranger, HEADER | {"jwk": jwk}, claims()), keyring) == "grant_forged"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        {key: value for key, value in claims().items() if key != "voice_id"},
        claims(scope="all"),
        claims(voice_id=None),
        claims(expires_at=True),
        claims(expires_at=1e12),
        claims(expires_at=10**30),
        claims(expires_at="2099-01-01"),
        claims(language=1),
    ],
)
def test_claims_of_another_form_are_no_grant(keyring: KeyRing, payload: Any) -> None:
    assert refused(signed(keyring, HEADER, payload), keyring) == "grant_forged"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "\0", "x" * 10_000, "....."])
def test_noise_is_no_grant(keyring: KeyRing, token: str) -> None:
    assert refused(token, keyring) == "grant_forged"


def test_every_flipped_character_breaks_it(keyring: KeyRing) -> None:
    """Header, claims and signature alike. (Of the last character four bits are padding and say nothing.)"""
    token = sign(GRANT, keyring)
    for place in range(0, len(token) - 1, 7):
        if token[place] != ".":
            other = "A" if token[place] != "A" else "B"
            assert refused(token[:place] + other + token[place + 1 :], keyring) == "grant_forged"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "job_2"},
        {"tenant_id": "ten_2"},
        {"voice_id": "voice_2"},
        {"consent_id": "cons_2"},
        {"subject_id": "sub_2"},
        {"kind": "conversion"},
        {"purpose": "advertising"},
        {"request_sha256": "1" * 64},
    ],
)
def test_a_grant_is_for_one_job_as_it_stands(changes: dict[str, str]) -> None:
    """Whoever can write job rows but has no key cannot make a worker say something else."""
    asked = {
        "id": "job_1", "tenant_id": "ten_1", "voice_id": "voice_1", "consent_id": "cons_1", "subject_id": "sub_1",
        "kind": "speech", "purpose": "general", "request_sha256": "0" * 64,
    }  # fmt: skip
    require_match(GRANT, Job(**asked))
    with pytest.raises(GrantRefused, match="grant_mismatch"):
        require_match(GRANT, Job(**asked | changes))


def test_the_grant_of_an_admitted_job_is_for_that_job(small_world: World) -> None:
    job = small_world.admit(small_world.submission(small_world.voice(small_world.consent())))
    assert job.grant_token is not None
    require_match(verify(job.grant_token, small_world.keyring, NOW), job)

"""Encryption at rest, one key per person (AES-256-GCM, NIST SP 800-38D; random 96-bit nonces).

A subject's data key is stored only wrapped by the installation's key-encryption key. Destroying the wrapped key makes
all that was sealed under it unreadable, in every backup of the objects too: that is how a person leaves.
Backups of the database keep the wrapped key until they are rotated out; so may PostgreSQL until it vacuums, and
SQLite's write-ahead log until it starts over.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vivavoce.ledger.errors import Erased, SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Subject

_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16


def new_subject_key(keyring: KeyRing, subject_id: str) -> bytes:
    """Make a fresh data key for a subject; returns it wrapped, for `Subject.wrapped_key`."""
    return _encrypt(keyring.kek, AESGCM.generate_key(bit_length=256), _bind(b"subject key", subject_id.encode()))


def destroy_subject_key(subject: Subject, now: datetime) -> None:
    """Erase all that is sealed under this subject's key. Cannot be undone once committed."""
    subject.wrapped_key = None
    subject.erased_at = subject.erased_at or now


def seal(keyring: KeyRing, subject: Subject, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt under the subject's key.

    Args:
        aad: Names the place where the result is kept (object key, or column and row), so that it cannot be moved.

    Raises:
        Erased: The subject's key is destroyed.
        SealBroken: The wrapped key does not belong to this subject or key ring.
    """
    key = _subject_key(keyring, subject)
    return _encrypt(key, plaintext, _bind(b"sealed", subject.id.encode(), aad))


def unseal(keyring: KeyRing, subject: Subject, sealed: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal` made for this subject and place.

    Raises:
        Erased: The subject's key is destroyed.
        SealBroken: Altered, moved, or sealed for somebody else.
    """
    key = _subject_key(keyring, subject)
    return _decrypt((key,), sealed, _bind(b"sealed", subject.id.encode(), aad))


def seal_plain(keyring: KeyRing, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypt what belongs to no subject (such as the input of a detection) under the installation's key."""
    return _encrypt(keyring.kek, plaintext, _bind(b"plain", aad))


def unseal_plain(keyring: KeyRing, sealed: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal_plain` made for this place; raises `SealBroken`."""
    return _decrypt(keyring.keks, sealed, _bind(b"plain", aad))


def rewrap_subject_key(keyring: KeyRing, subject_id: str, wrapped: bytes) -> bytes | None:
    """Wrap a subject's key anew, under the key that is used now; None where it is so already. Raises `SealBroken`."""
    return _renewed(keyring, wrapped, _bind(b"subject key", subject_id.encode()))


def reseal_plain(keyring: KeyRing, sealed: bytes, aad: bytes) -> bytes | None:
    """Seal anew what `seal_plain` made for this place; as `rewrap_subject_key`."""
    return _renewed(keyring, sealed, _bind(b"plain", aad))


def _subject_key(keyring: KeyRing, subject: Subject) -> bytes:
    if subject.wrapped_key is None:
        raise Erased(f"the key of {subject.id} is destroyed")
    return _decrypt(keyring.keks, subject.wrapped_key, _bind(b"subject key", subject.id.encode()))


def _bind(*parts: bytes) -> bytes:
    # Lengths go before the parts, so that no two lists of parts give the same bytes.
    return b"".join(len(part).to_bytes(4, "big") + part for part in (b"vivavoce", *parts))


def _encrypt(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, _VERSION + aad)


def _renewed(keyring: KeyRing, sealed: bytes, aad: bytes) -> bytes | None:
    try:
        _decrypt((keyring.kek,), sealed, aad)
    except SealBroken:
        return _encrypt(keyring.kek, _decrypt(keyring.keks, sealed, aad), aad)
    return None


def _decrypt(keys: Sequence[bytes], sealed: bytes, aad: bytes) -> bytes:
    if len(sealed) < len(_VERSION) + _NONCE_BYTES + _TAG_BYTES or not sealed.startswith(_VERSION):
        raise SealBroken("not a sealed value")
    body = sealed[len(_VERSION) :]
    for key in keys:
        with suppress(InvalidTag):
            return AESGCM(key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _VERSION + aad)
    raise SealBroken("altered, moved, or sealed under another key")

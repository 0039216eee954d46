"""What is sealed opens only for its subject, in its place, with the right keys, and never after erasure."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.ledger.envelope import destroy_subject_key, new_subject_key, seal, seal_plain, unseal, unseal_plain
from vivavoce.ledger.errors import Erased, SealBroken
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Subject

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def subject_of(keyring: KeyRing, name: str) -> Subject:
    return Subject(id=name, tenant_id="ten_1", wrapped_key=new_subject_key(keyring, name), created_at=NOW)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_sealed_opens(keyring: KeyRing, plaintext: bytes, aad: bytes) -> None:
    subject = subject_of(keyring, "sub_1")
    sealed = seal(keyring, subject, plaintext, aad)
    assert unseal(keyring, subject, sealed, aad) == plaintext
    assert unseal_plain(keyring, seal_plain(keyring, plaintext, aad), aad) == plaintext
    assert seal(keyring, subject, plaintext, aad) != sealed, "a nonce was used twice"


def test_every_changed_byte_is_found(keyring: KeyRing) -> None:
    subject = subject_of(keyring, "sub_1")
    sealed = seal(keyring, subject, b"name", b"column:row")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            unseal(keyring, subject, bytes(changed), b"column:row")
    for cut in range(len(sealed)):
        with pytest.raises(SealBroken):
            unseal(keyring, subject, sealed[:cut], b"column:row")


def test_it_cannot_be_moved(keyring: KeyRing) -> None:
    """To another column, another subject, or between personal and plain storage."""
    subject, other = subject_of(keyring, "sub_1"), subject_of(keyring, "sub_2")
    sealed = seal(keyring, subject, b"name", b"a")
    with pytest.raises(SealBroken):
        unseal(keyring, subject, sealed, b"b")
    with pytest.raises(SealBroken):
        unseal(keyring, other, sealed, b"a")
    other.wrapped_key = subject.wrapped_key
    with pytest.raises(SealBroken):
        unseal(keyring, other, sealed, b"a")
    with pytest.raises(SealBroken):
        unseal_plain(keyring, subject.wrapped_key or b"", b"sub_1")


def test_places_do_not_run_into_each_other(keyring: KeyRing) -> None:
    """`sub_1` + `2:x` and `sub_12` + `:x` are different places, though joined they read the same."""
    short, long = subject_of(keyring, "sub_1"), subject_of(keyring, "sub_12")
    # Even with one and the same data key, the binding alone must tell them apart.
    from vivavoce.ledger import envelope

    assert envelope._bind(b"sealed", short.id.encode(), b"2:x") != envelope._bind(b"sealed", long.id.encode(), b":x")


def test_another_installation_opens_nothing(keyring: KeyRing, tmp_path: Path) -> None:
    subject = subject_of(keyring, "sub_1")
    sealed = seal(keyring, subject, b"name", b"a")
    stranger = KeyRing.open(tmp_path / "other", create=True)
    with pytest.raises(SealBroken):
        unseal(stranger, subject, sealed, b"a")


def test_erasure_is_final(keyring: KeyRing) -> None:
    subject = subject_of(keyring, "sub_1")
    sealed = seal(keyring, subject, b"name", b"a")
    destroy_subject_key(subject, NOW)
    assert (subject.wrapped_key, subject.erased_at) == (None, NOW)
    with pytest.raises(Erased):
        unseal(keyring, subject, sealed, b"a")
    with pytest.raises(Erased):
        seal(keyring, subject, b"more", b"a")
    subject.wrapped_key = new_subject_key(keyring, "sub_1")
    with pytest.raises(SealBroken):
        unseal(keyring, subject, sealed, b"a")

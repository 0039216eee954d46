"""A certificate that cannot sign is found out at the start, by name and reason."""

from __future__ import annotations

import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import ValidationError
from tests.provenance.authority import DAY, PEM, Authority
from tests.provenance.conftest import ORIGIN, installation, labelled

from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import (
    ProvenanceError,
    ProvenanceSettings,
    open_credential,
    read_provenance,
    sign,
    trusted_roots,
)


def test_the_first_start_makes_a_certificate_and_the_next_finds_it(tmp_path: Path) -> None:
    settings = installation(tmp_path)
    assert trusted_roots(settings) == ""
    first, second = open_credential(settings), open_credential(settings)
    assert first.development
    assert first.chain_pem() == second.chain_pem()
    assert trusted_roots(settings) == first.roots
    folder = settings.keys_folder / "c2pa"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "chain.pem": 0o600,
        "leaf.key": 0o600,
        "roots.pem": 0o600,
    }
    assert "PRIVATE" not in repr(first)
    KeyRing.open(settings.keys_folder, create=True)


def test_without_the_installations_keys_none_is_made(tmp_path: Path) -> None:
    """Anything in the folder would keep the keys themselves from being made."""
    settings = ProvenanceSettings(home=tmp_path)
    with pytest.raises(ProvenanceError, match="certificate_missing"):
        open_credential(settings)
    assert not settings.keys_folder.exists()


def _open(home: Path) -> str:
    return open_credential(ProvenanceSettings(home=home)).chain_pem()


def test_processes_that_start_at_once_make_one_certificate(tmp_path: Path) -> None:
    installation(tmp_path)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        chains = pool.map(_open, [tmp_path] * 6)
    assert len(set(chains)) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir() if path.is_dir()] == ["c2pa"]


def test_a_certificate_of_ones_own_is_used(tmp_path: Path) -> None:
    settings = Authority().write(tmp_path)
    found = open_credential(settings)
    assert not found.development
    assert not settings.development_folder.exists()
    file = sign(labelled("wav"), "audio/wav", ORIGIN, found)
    assert read_provenance(file.data, trusted_roots(settings)).signer == "Vivavoce, leaf"


@pytest.mark.parametrize(
    ("begins", "ends", "code"),
    [(-9 * DAY, -timedelta(seconds=2), "certificate_expired"), (DAY, 9 * DAY, "certificate_not_yet_valid")],
)
def test_out_of_its_time_it_is_refused_at_the_start(
    tmp_path: Path, begins: timedelta, ends: timedelta, code: str
) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    settings = authority.write(tmp_path, key, authority.leaf(key, begins, ends))
    with pytest.raises(ProvenanceError, match="leaf") as refused:
        open_credential(settings)
    assert refused.value.code == code


def test_a_development_certificate_runs_out_too(tmp_path: Path) -> None:
    settings = installation(tmp_path)
    open_credential(settings)
    with pytest.raises(ProvenanceError, match="certificate_expired"):
        open_credential(settings, datetime.now(UTC) + timedelta(days=3651))


def test_a_certificate_for_web_servers_is_refused_at_the_start(tmp_path: Path) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    settings = authority.write(tmp_path, key, authority.leaf(key, purpose=ExtendedKeyUsageOID.SERVER_AUTH))
    with pytest.raises(ProvenanceError, match="certificate_unfit"):
        open_credential(settings)


def test_roots_that_did_not_issue_the_certificate_are_refused_at_the_start(tmp_path: Path) -> None:
    """Else every file would be refused, one by one, once it was made."""
    settings = Authority().write(tmp_path)
    (tmp_path / "roots.pem").write_bytes(Authority().root().public_bytes(PEM))
    with pytest.raises(ProvenanceError, match="certificate_unfit"):
        open_credential(settings)


def test_key_and_certificate_must_be_a_pair(tmp_path: Path) -> None:
    authority = Authority()
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    with pytest.raises(ProvenanceError, match="key_mismatch"):
        open_credential(authority.write(tmp_path, key, authority.leaf(other)))


@pytest.mark.parametrize("name", ["chain.pem", "leaf.key", "roots.pem"])
def test_a_file_that_is_named_and_not_there_is_no_reason_to_make_one(tmp_path: Path, name: str) -> None:
    settings = Authority().write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises((ProvenanceError, KeyRingError), match=name):
        open_credential(settings)
    assert not settings.development_folder.exists()


@pytest.mark.parametrize("name", ["chain.pem", "leaf.key", "roots.pem"])
@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    settings = Authority().write(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProvenanceError, match=name):
        open_credential(settings)


def test_keys_of_other_kinds(tmp_path: Path) -> None:
    settings = Authority().write(tmp_path)
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        (tmp_path / "leaf.key").write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        with pytest.raises(ProvenanceError, match="key_unfit"):
            open_credential(settings)


def test_a_key_that_everybody_can_read(tmp_path: Path) -> None:
    settings = Authority().write(tmp_path)
    (tmp_path / "leaf.key").chmod(0o644)
    with pytest.raises(KeyRingError, match="open to every user"):
        open_credential(settings)


def test_half_of_the_settings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="VIVAVOCE_C2PA_KEY"):
        ProvenanceSettings(home=tmp_path, c2pa_chain=tmp_path / "chain.pem")

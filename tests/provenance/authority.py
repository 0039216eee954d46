"""Certificates of every kind, good and bad, made without the code that is tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from vivavoce.provenance import Credential, ProvenanceSettings

DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Vivavoce"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(signs_files: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return x509.KeyUsage(
        digital_signature=signs_files,
        key_cert_sign=not signs_files,
        crl_sign=not signs_files,
        decipher_only=False,
        **off,
    )


@dataclass
class Authority:
    """A root that calls itself Vivavoce, as anybody's may."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def root(self) -> x509.Certificate:
        return (
            self._begin("root", self.key.public_key(), self.now - DAY, self.now + 100 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_files=False), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def leaf(
        self,
        key: ec.EllipticCurvePrivateKey,
        begins: timedelta = -DAY,
        ends: timedelta = 10 * DAY,
        purpose: ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ) -> x509.Certificate:
        return (
            self._begin("leaf", key.public_key(), self.now + begins, self.now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_files=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def write(
        self, folder: Path, key: ec.EllipticCurvePrivateKey | None = None, leaf: x509.Certificate | None = None
    ) -> ProvenanceSettings:
        """The three files, and settings that name them."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chain.pem").write_bytes((leaf or self.leaf(key)).public_bytes(PEM))
        (folder / "roots.pem").write_bytes(self.root().public_bytes(PEM))
        (folder / "leaf.key").touch(mode=0o600)
        (folder / "leaf.key").write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return ProvenanceSettings(
            home=folder,
            c2pa_chain=folder / "chain.pem",
            c2pa_key=folder / "leaf.key",
            c2pa_roots=folder / "roots.pem",
        )

    def _begin(
        self, name: str, public_key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("root"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )


@cache
def credential() -> Credential:
    """What the tests of this run sign with, where it does not matter."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    return Credential((authority.leaf(key),), key, authority.root().public_bytes(PEM).decode(), development=True)

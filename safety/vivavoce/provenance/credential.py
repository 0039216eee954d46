"""The certificate and key that files are signed with, checked before the first file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from vivavoce.ledger.secret_files import create_folder, filled, read_secret
from vivavoce.provenance.development import make_certificates
from vivavoce.provenance.errors import ProvenanceError
from vivavoce.provenance.settings import ProvenanceSettings

_COORDINATE_BYTES = 32  # P-256


@dataclass(frozen=True)
class Credential:
    """What this installation signs with.

    Attributes:
        chain: The certificates, the signing one first.
        key: Its private key.
        roots: PEM of the authorities under which a signature counts as ours.
        development: Whether this installation made the certificate itself, so that nobody else trusts it.
    """

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    roots: str = field(repr=False)
    development: bool

    @classmethod
    def read(cls, settings: ProvenanceSettings) -> Self:
        """Read what the settings name, or what this installation made itself; make that on first need.

        Raises:
            ProvenanceError: Missing, unreadable, or key and certificate are no pair; or none is named, and this
                installation has no keys yet beside which one could be made.
            KeyRingError: The key cannot be read or is open to every user, or the folder could not be made.
        """
        if settings.c2pa_chain and settings.c2pa_key and settings.c2pa_roots:
            paths, development = (settings.c2pa_chain, settings.c2pa_key, settings.c2pa_roots), False
        else:
            folder, development = settings.development_folder, True
            if not filled(settings.keys_folder):
                # Anything in that folder would look like keys that were made already, and half lost.
                raise ProvenanceError("certificate_missing", f"there are no keys in {settings.keys_folder} yet")
            if not filled(folder):
                create_folder(folder, make_certificates())
            paths = (folder / "chain.pem", folder / "leaf.key", folder / "roots.pem")
        chain_path, key_path, roots_path = paths
        chain = _certificates(chain_path)
        found = cls(tuple(chain), _key(key_path), _pem(_certificates(roots_path)), development)
        if found.key.public_key() != chain[0].public_key():
            raise ProvenanceError("key_mismatch", f"{key_path} is not the key of the first certificate in {chain_path}")
        return found

    def require_valid(self, now: datetime) -> None:
        """Check that no certificate of the chain has run out.

        Raises:
            ProvenanceError: certificate_expired or certificate_not_yet_valid.
        """
        for certificate in self.chain:
            name, until = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
            if now > until:
                raise ProvenanceError(
                    "certificate_expired",
                    f"the certificate of {name} ran out on {until:%Y-%m-%d}; no file can be signed until it is renewed",
                )
            if now < certificate.not_valid_before_utc:
                raise ProvenanceError(
                    "certificate_not_yet_valid",
                    f"the certificate of {name} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on",
                )

    def chain_pem(self) -> str:
        """Give the chain as PEM."""
        return _pem(self.chain)

    def sign(self, message: bytes) -> bytes:
        """Sign with ES256: r and s, 32 bytes each (RFC 9053, section 2.1)."""
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


def trusted_roots(settings: ProvenanceSettings) -> str:
    """Read the authorities alone, as a host needs that reads provenance and signs nothing.

    Returns:
        PEM; empty where no certificate was made or named yet, so that no signature counts as ours.

    Raises:
        ProvenanceError: They are named and cannot be read.
    """
    path = settings.c2pa_roots or settings.development_folder / "roots.pem"
    return _pem(_certificates(path)) if settings.c2pa_roots or path.exists() else ""


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ProvenanceError("certificate_missing", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ProvenanceError("certificate_unreadable", f"{path} holds no certificates in PEM") from error
    if not found:
        raise ProvenanceError("certificate_unreadable", f"{path} holds no certificates in PEM")
    return found


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError) as error:
        raise ProvenanceError("key_unfit", f"{path} holds no private key in PEM, or an encrypted one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvenanceError("key_unfit", f"{path} holds no EC key on P-256")
    return key


def _pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)

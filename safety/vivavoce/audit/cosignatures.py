"""Cosignatures of checkpoints (C2SP tlog-cosignature): Ed25519 `cosignature/v1` and ML-DSA-44 `subtree/v1`.

A cosignature says: at this time, this was the largest consistent tree of this log that I had seen. It is one more
signature line of the note. The Ed25519 kind signs the note's text, the ML-DSA-44 kind origin, size and root, and its
signer's name; it holds against quantum computers too.

Not done of the standard: subtrees that do not begin at leaf 0, times of zero, names in the form of OIDs. A cosigner's
key file holds one 32-byte seed, and both kinds of key are made from it, each through its own HKDF label.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vivavoce.audit.errors import NoteInvalid
from vivavoce.audit.notes import (
    ID_BYTES,
    Checkpoint,
    NamedKey,
    PublicKey,
    read_checkpoint,
    read_signature_line,
    signature_line,
    split,
)

SEED_BYTES = 32
_ED25519 = b"\x04"
_MLDSA44 = b"\x06"
_SIGNATURE_BYTES = {_ED25519: 64, _MLDSA44: 2420}
_TIME_BYTES = 8


@dataclass(frozen=True)
class CosignerKey(NamedKey):
    """A cosigner's public key with its name."""

    KINDS: ClassVar[Mapping[bytes, type[PublicKey]]] = {_ED25519: Ed25519PublicKey, _MLDSA44: MLDSA44PublicKey}

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.name.encode(errors="replace")) > 255:
            raise NoteInvalid(f"too long for a cosigner's name: {self.name!r}")

    def cosigned(self, note: str) -> int | None:
        """Give the time (POSIX seconds) at which this key cosigned a note; None if it did not.

        Raises:
            NoteInvalid: Malformed, or a line in this key's name does not verify.
        """
        text, lines = split(note)
        head = read_checkpoint(text)
        for line in lines:
            name, blob = read_signature_line(line)
            if name == self.name and blob[:ID_BYTES] == self.key_id:
                return self._verify(text, head, blob[ID_BYTES:])
        return None

    def _verify(self, text: str, head: Checkpoint, stamped: bytes) -> int:
        if len(stamped) != _TIME_BYTES + _SIGNATURE_BYTES[self.kind]:
            raise NoteInvalid("a cosignature of a wrong length")
        time = int.from_bytes(stamped[:_TIME_BYTES], "big")
        if not 0 < time < 1 << 63:
            raise NoteInvalid("a cosignature without a time")
        try:
            self.key.verify(stamped[_TIME_BYTES:], _message(self.kind, self.name, time, text, head))
        except (InvalidSignature, UnicodeEncodeError) as error:
            raise NoteInvalid(f"the cosignature by {self.name} is wrong") from error
        return time


class Cosigner:
    """Cosigns with both kinds of key, made from one seed.

    Args:
        seed: 32 secret bytes; use them for this one cosigner and nothing else.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed of {len(seed)} bytes instead of {SEED_BYTES}")
        self.name = name
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(_derive(seed, b"cosigner ed25519"))
        self._mldsa44 = MLDSA44PrivateKey.from_seed_bytes(_derive(seed, b"cosigner ml-dsa-44"))
        self.keys = (CosignerKey(name, self._ed25519.public_key()), CosignerKey(name, self._mldsa44.public_key()))
        """Its public keys: Ed25519, ML-DSA-44."""

    def cosign(self, note: str, time: int) -> str:
        """Sign a note's checkpoint, unchecked; returns the two signature lines.

        Args:
            time: POSIX seconds.
        """
        text, _ = split(note)
        head = read_checkpoint(text)
        stamp = time.to_bytes(_TIME_BYTES, "big")
        ed25519 = self._ed25519.sign(_message(_ED25519, self.name, time, text, head))
        mldsa44 = self._mldsa44.sign(_message(_MLDSA44, self.name, time, text, head))
        pairs = zip(self.keys, (ed25519, mldsa44), strict=True)
        return "".join(signature_line(self.name, key.key_id + stamp + signature) for key, signature in pairs)


def _message(kind: bytes, name: str, time: int, text: str, head: Checkpoint) -> bytes:
    if kind == _ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    own, origin = name.encode(), head.origin.encode()
    if len(origin) > 255:
        raise NoteInvalid("an origin too long to cosign")
    # struct cosigned_message, in the presentation language of RFC 8446 section 3; start is 0: a whole tree.
    return b"".join(
        (
            b"subtree/v1\n\0",
            struct.pack(">B", len(own)) + own,
            struct.pack(">Q", time),
            struct.pack(">B", len(origin)) + origin,
            struct.pack(">QQ", 0, head.size),
            head.root,
        )
    )


def _derive(seed: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), SEED_BYTES, None, b"vivavoce " + label).derive(seed)

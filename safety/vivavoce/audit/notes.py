"""Signed notes and checkpoints (C2SP signed-note and tlog-checkpoint), Ed25519 signatures; others': `cosignatures`.

A note is text, an empty line, and one signature line per signer: an em dash, the key's name, and in base64 the key's
4-byte id followed by the signature. A checkpoint's text is the log's origin, its size and its root.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from vivavoce.audit.errors import NoteInvalid
from vivavoce.audit.merkle import HASH_BYTES

ID_BYTES = 4
DECIMAL = "(0|[1-9][0-9]{0,18})"
"""Pattern of a size or an index."""
PublicKey = Ed25519PublicKey | MLDSA44PublicKey

_DASH = "\N{EM DASH} "


@dataclass(frozen=True)
class NamedKey:
    """A public key with its name, written `name+id+key`: the form in which C2SP verifier keys are published."""

    KINDS: ClassVar[Mapping[bytes, type[PublicKey]]]
    """Kinds of key that may stand here, by C2SP's byte for the algorithm."""

    name: str
    key: PublicKey

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(character.isspace() for character in self.name):
            raise NoteInvalid(f"not a key name: {self.name!r}")

    @property
    def kind(self) -> bytes:
        """C2SP's byte for the algorithm."""
        return next(kind for kind, form in self.KINDS.items() if isinstance(self.key, form))

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256 over name, newline, algorithm and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._material).digest()[:ID_BYTES]

    @property
    def _material(self) -> bytes:
        return self.kind + self.key.public_bytes_raw()

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._material).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+id+key`; raises `NoteInvalid`."""
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            material = decode(encoded)
            form = cls.KINDS.get(material[:1])
            if form is None:
                raise NoteInvalid("a key of another kind than is needed here")
            found = cls(name, form.from_public_bytes(material[1:]))
            own_id = found.key_id.hex()
        except ValueError as error:
            raise NoteInvalid("not a key in the form name+id+key") from error
        if own_id != key_id:
            raise NoteInvalid("the key's id does not belong to it")
        return found


@dataclass(frozen=True)
class Verifier(NamedKey):
    """The key that a log signs with: what a stranger needs to check a note."""

    KINDS: ClassVar[Mapping[bytes, type[PublicKey]]] = {b"\x01": Ed25519PublicKey}

    key: Ed25519PublicKey


@dataclass(frozen=True)
class Checkpoint:
    """A head of a log."""

    origin: str
    size: int
    root: bytes

    def sign(self, *keys: Ed25519PrivateKey) -> str:
        """Sign as a note, once with each key; all are named like the log, as when its key changes."""
        text = f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"
        blobs = [Verifier(self.origin, key.public_key()).key_id + key.sign(text.encode()) for key in keys]
        return f"{text}\n" + "".join(signature_line(self.origin, blob) for blob in blobs)

    @classmethod
    def open(cls, note: str, verifier: Verifier, *former: Verifier) -> Self:
        """Check a note's signature and read its checkpoint; signatures by other keys are passed over.

        Args:
            former: Further keys of the same log, of which any will do.

        Raises:
            NoteInvalid: Malformed, for another log, or without a right signature by one of these keys.
        """
        text, lines = split(note)
        # All of them are read: nothing malformed stands in a note that was accepted.
        signed = [_signed(text, line, key) for line in lines for key in (verifier, *former)]
        if not any(signed):
            raise NoteInvalid(f"not signed by {verifier.name} ({verifier.key_id.hex()})")
        found = read_checkpoint(text)
        if found.origin != verifier.name:
            raise NoteInvalid(f"a checkpoint of {found.origin!r}, not of {verifier.name!r}")
        return cls(found.origin, found.size, found.root)


def read_checkpoint(text: str) -> Checkpoint:
    """Read the checkpoint in a note's text, whoever signed it; raises `NoteInvalid`."""
    # Lines after the third are extensions, which the format allows.
    origin, size, encoded, *_ = [*text.split("\n"), "", ""]
    if not origin:
        raise NoteInvalid("the checkpoint has no origin")
    if not re.fullmatch(DECIMAL, size):
        raise NoteInvalid("the checkpoint's size is not a number")
    try:
        root = decode(encoded)
    except ValueError as error:
        raise NoteInvalid("the checkpoint's root is not base64") from error
    if len(root) != HASH_BYTES:
        raise NoteInvalid(f"the checkpoint's root has {len(root)} bytes instead of {HASH_BYTES}")
    return Checkpoint(origin, int(size), root)


def split(note: str) -> tuple[str, list[str]]:
    """Take a note apart: its text, to the last newline, and its signature lines; raises `NoteInvalid`."""
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise NoteInvalid("not a signed note")
    return text + "\n", signatures.removesuffix("\n").split("\n")


def signature_line(name: str, blob: bytes) -> str:
    """Write a signature line, with its newline, from a key's id and signature."""
    return f"{_DASH}{name} {base64.b64encode(blob).decode()}\n"


def read_signature_line(line: str) -> tuple[str, bytes]:
    """Read a signature line: the key's name, and its id and signature; raises `NoteInvalid`."""
    name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
    if not line.startswith(_DASH) or not name:
        raise NoteInvalid("a malformed signature line")
    try:
        return name, decode(encoded)
    except ValueError as error:
        raise NoteInvalid("a signature line is not base64") from error


def _signed(text: str, line: str, verifier: Verifier) -> bool:
    """Whether this signature line is by this key; a wrong signature by it is an error, not a stranger's."""
    name, blob = read_signature_line(line)
    if name != verifier.name or blob[:ID_BYTES] != verifier.key_id:
        return False
    try:
        verifier.key.verify(blob[ID_BYTES:], text.encode())
    except (InvalidSignature, UnicodeEncodeError) as error:
        raise NoteInvalid("the signature is wrong") from error
    return True


def decode(text: str) -> bytes:
    """Decode base64 that is written the one right way; raises `ValueError`."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 with stray bits")
    return data

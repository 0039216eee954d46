"""Reading: what a file's C2PA manifest says, and whether it may be believed. Offline."""

from __future__ import annotations

import io
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import c2pa

from vivavoce.provenance.library import context
from vivavoce.provenance.manifest import OUTPUT_ASSERTION, SOFT_BINDING
from vivavoce.provenance.origin import MARK_ALGORITHM
from vivavoce.sound.containers import Data, identify

_MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "mp4": "audio/mp4"}
UNPARSED = "application/octet-stream"
_STORE = b"jumdc2pa"  # JUMBF description box of a C2PA manifest store (ISO/IEC 19566-5)
_CREDENTIAL = "signingCredential."
_MADE_BY_ALGORITHM = ("/trainedAlgorithmicMedia", "/compositeWithTrainedAlgorithmicMedia", "/algorithmicMedia")


class ProvenanceState(StrEnum):
    """What there is to believe."""

    NONE = "none"
    """There is no manifest."""
    VALID = "valid"
    """The file is, to the byte, what a signer whom we trust has signed."""
    INVALID = "invalid"
    """There is a manifest, and it does not belong to these bytes, or is broken."""
    UNTRUSTED = "untrusted"
    """The manifest belongs to these bytes, but its signer is nobody whom we trust, or not any more."""


@dataclass(frozen=True)
class Provenance:
    """What was read. `output_id`, `created_at` and `binding` are set only where the state is `valid`.

    Attributes:
        state: In one word.
        reason: In plain words, why it is not `valid`; empty where it is.
        problems: The library's codes of what does not hold (C2PA 2.4 section 15.2).
        generated: Whether the manifest, or one that it builds on, says that an algorithm made this; believed or not.
        signer: Who signed, as the certificate has it; anybody's own words unless the state is `valid`.
        output_id: The output's name in the registry.
        created_at: When it was made (RFC 3339).
        binding: The soft binding to our mark, for `binds`.
    """

    state: ProvenanceState
    reason: str = ""
    problems: tuple[str, ...] = ()
    generated: bool = False
    signer: str | None = None
    output_id: str | None = None
    created_at: str | None = None
    binding: str | None = None


def read_provenance(source: bytes | Path, roots: str, sidecar: bytes | None = None) -> Provenance:
    """Read and check the manifest in a file, or beside it.

    Args:
        source: Any bytes, or a file that is read piece by piece.
        roots: PEM of the authorities under which a signature counts as ours; empty for none.
        sidecar: The manifest store that came beside the file. The file itself is then not searched for one.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(source, bytes):
        return _read(source, io.BytesIO(source), roots, sidecar)
    with source.open("rb") as file:
        if not file.seek(0, io.SEEK_END):
            return _read(b"", file, roots, sidecar)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data, file, roots, sidecar)


def _read(data: Data, stream: BinaryIO, roots: str, sidecar: bytes | None) -> Provenance:
    container = identify(data)
    if sidecar is None and container not in _MEDIA_TYPES:
        return Provenance(ProvenanceState.NONE, "files of this kind carry no manifest")
    if sidecar == b"":  # to the library it would be none
        return _unreadable(_STORE, "it is empty")
    # A manifest beside the file speaks of its bytes as they are: how they are laid out is of no matter.
    media_type = UNPARSED if sidecar is not None else _MEDIA_TYPES[container or ""]
    stream.seek(0)
    try:
        reader = c2pa.Reader.try_create(media_type, stream, sidecar, context=context(roots))
        if reader is None:
            return Provenance(ProvenanceState.NONE, "there is no manifest")
        with reader:
            store = json.loads(reader.json())
    except c2pa.C2paError as error:
        return _unreadable(data if sidecar is None else _STORE, str(error))
    return _judge(store)


def _unreadable(where: Data, why: str) -> Provenance:
    """Tell a manifest that is broken from a file that has none and that the library cannot make sense of."""
    if where.find(_STORE) >= 0:
        return Provenance(ProvenanceState.INVALID, "the manifest cannot be read", ("unreadable",))
    return Provenance(ProvenanceState.NONE, f"no manifest could be read: {why.splitlines()[0][:200]}")


def _judge(store: Mapping[str, Any]) -> Provenance:
    manifests = _map(store.get("manifests"))
    manifest = _map(manifests.get(str(store.get("active_manifest"))))
    results = _map(_map(store.get("validation_results")).get("activeManifest"))
    problems = tuple(dict.fromkeys(str(one.get("code")) for one in _maps(results.get("failure"))))
    generated = any(_generated(_map(one)) for one in manifests.values())
    signer = _signer(_map(manifest.get("signature_info")))
    if problems and all(code.startswith(_CREDENTIAL) for code in problems):
        return Provenance(ProvenanceState.UNTRUSTED, _why_untrusted(problems), problems, generated, signer)
    # Whatever is not said to be trusted is not: a state that the library may invent later is no state to believe in.
    if problems or store.get("validation_state") != "Trusted":
        reason = "the file is not what was signed, or the manifest is another's"
        return Provenance(ProvenanceState.INVALID, reason, problems, generated, signer)
    output = _assertion(manifest, OUTPUT_ASSERTION)
    return Provenance(
        ProvenanceState.VALID,
        generated=generated,
        signer=signer,
        output_id=_text(output.get("output")),
        created_at=_text(output.get("time")),
        binding=_binding(_assertion(manifest, SOFT_BINDING)),
    )


def _why_untrusted(problems: tuple[str, ...]) -> str:
    if f"{_CREDENTIAL}expired" in problems:
        return "the signer's certificate has run out"
    return "the signer is nobody whom we trust"


def _generated(manifest: Mapping[str, Any]) -> bool:
    return any(
        str(action.get("digitalSourceType")).endswith(_MADE_BY_ALGORITHM)
        for assertion in _maps(manifest.get("assertions"))
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in _maps(_map(assertion.get("data")).get("actions"))
    )


def _signer(signature: Mapping[str, Any]) -> str | None:
    names = [str(signature[name]) for name in ("issuer", "common_name") if signature.get(name)]
    return ", ".join(names) or None


def _assertion(manifest: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    found = [one for one in _maps(manifest.get("assertions")) if one.get("label") == label]
    return _map(found[0].get("data")) if len(found) == 1 else {}


def _binding(assertion: Mapping[str, Any]) -> str | None:
    blocks = _maps(assertion.get("blocks"))
    return _text(blocks[0].get("value")) if assertion.get("alg") == MARK_ALGORITHM and len(blocks) == 1 else None


# What a manifest holds is anybody's own writing, in any shape.
def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

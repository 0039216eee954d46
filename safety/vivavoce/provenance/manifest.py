"""What the C2PA manifest of an output states (C2PA Technical Specification 2.4)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from uuid import UUID

from vivavoce.provenance.origin import MARK_ALGORITHM, PROVIDER, Origin, system_version

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
OUTPUT_ASSERTION = "org.vivavoce.output"
SOFT_BINDING = "c2pa.soft-binding"
INPUT_TITLE = "Input recording"
"""An uploaded file's own name is never taken over: people name recordings after people."""

_INPUT = "input"


def definition(origin: Origin, media_type: str) -> dict[str, Any]:
    """Write the manifest down as `c2pa.Builder` takes it. Equal origins give equal manifests.

    It says: created by a trained algorithm, with a mark in the sound that is bound to this manifest; when, by which
    system; and, for a conversion, from which recording (its digest as an RFC 6920 name, and no sound of it).
    """
    system = {"name": PROVIDER, "version": system_version()}
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "when": origin.time,
        "digitalSourceType": GENERATED,
        "softwareAgent": system,
    }
    ingredients: list[dict[str, Any]] = []
    if origin.input_sha256 is not None:
        created["parameters"] = {"ingredientIds": [_INPUT]}
        ingredients.append(
            {
                "label": _INPUT,
                "title": INPUT_TITLE,
                "relationship": "inputTo",
                "instance_id": named_by_digest(origin.input_sha256),
            }
        )
    marked = {"action": "c2pa.watermarked.bound", "when": origin.time, "softwareAgent": system}
    return {
        "label": f"urn:c2pa:{_uuid(origin.output_id, 'manifest')}",
        "instance_id": f"xmp:iid:{_uuid(origin.output_id, 'file')}",
        "claim_generator_info": [system],
        "title": origin.title,
        "format": media_type,
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created, marked], "allActionsIncluded": True}},
            {
                "label": SOFT_BINDING,
                "data": {"alg": MARK_ALGORITHM, "blocks": [{"scope": {}, "value": origin.binding}]},
            },
            {
                "label": OUTPUT_ASSERTION,
                "kind": "Json",
                "data": {
                    "output": origin.output_id,
                    "time": origin.time,
                    "model": origin.model_id,
                    "consentAssurance": origin.assurance,
                },
            },
        ],
    }


def named_by_digest(sha256: str) -> str:
    """Name something by its SHA-256 in hex, as a URI (RFC 6920)."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode()
    return f"ni:///sha-256;{digest}"


def _uuid(output_id: str, what: str) -> UUID:
    return UUID(bytes=hashlib.sha256(f"{what} {output_id}".encode()).digest()[:16], version=4)

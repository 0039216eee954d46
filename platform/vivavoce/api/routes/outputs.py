"""`/v1/outputs/{id}/receipt`: what was made, on whose word, and the proof that the log says so."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.registry import find_output
from vivavoce.api.routes.audit import EntryView, encoded, entry_view
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here, Services
from vivavoce.audit.notes import Checkpoint
from vivavoce.ledger.tables import AuditLeaf, Consent, Job
from vivavoce.release.door import manifest_beside

router = APIRouter(prefix="/v1/outputs", tags=["outputs"])

_SAME = (
    *("format", "media_type", "sample_rate", "seconds", "model_id", "sha256", "size_bytes"),
    *("created_at", "withheld_at", "withheld_reason", "mark_score", "mark_strength"),
)


class Proven(EntryView):
    """An entry with its inclusion proof under the receipt's checkpoint."""

    inclusion: list[str]


class Receipt(BaseModel):
    """An output's facts. They can be checked with the log's public key alone: leaf hash, path, signed root."""

    output: str
    job: str
    voice: str
    consent: str
    assurance: str
    format: str
    media_type: str
    sample_rate: int
    seconds: float
    model_id: str
    sha256: str
    size_bytes: int
    mark_identity: int | None
    """What the mark says; null for marks of the first kind, which named nobody."""
    mark_score: float
    mark_strength: float
    created_at: datetime
    withheld_at: datetime | None
    withheld_reason: str | None
    checkpoint: str
    log_key: str
    leaves: list[Proven]
    """Intent and outcome."""
    manifest: str | None
    """The C2PA manifest store (base64, `application/c2pa`) of OGG, ADTS and raw PCM, which cannot carry it. Null where
    the file carries it itself, and after the speaker was erased."""


@router.get("/{output_id}/receipt")
def receipt(output_id: str, caller: Annotated[Caller, allowed(Scope.JOBS_READ)], here: Here) -> Receipt:
    """Give the receipt of an output."""
    with here.database.read() as session:
        manifest = manifest_beside(session, here.store, here.keyring, find_output(session, caller, output_id))
    with here.database.write() as session:
        output = find_output(session, caller, output_id)
        job = session.get_one(Job, output.job_id)
        note = here.log.checkpoint(session)
        size = Checkpoint.open(note, *here.log.verifiers).size
        leaves = [leaf for leaf in (job.intent_leaf, job.outcome_leaf) if leaf is not None]
        return Receipt(
            output=output.id,
            job=job.id,
            voice=output.voice_id,
            consent=output.consent_id,
            assurance=session.get_one(Consent, output.consent_id).assurance,
            mark_identity=output.mark_identity,
            checkpoint=note,
            log_key=str(here.log.verifier),
            leaves=[_proven(session, here, leaf, size) for leaf in leaves],
            manifest=None if manifest is None else base64.b64encode(manifest).decode(),
            **{name: getattr(output, name) for name in _SAME},
        )


def _proven(session: Session, here: Services, index: int, size: int) -> Proven:
    view = entry_view(session.get_one(AuditLeaf, index))
    return Proven(**view.model_dump(), inclusion=encoded(here.log.inclusion(session, index, size)))

"""The only place where sound becomes an answer. It takes what `vivavoce.release` released, and nothing else."""

from __future__ import annotations

from fastapi import Response
from sqlalchemy import select

from vivavoce.api.gate import Caller
from vivavoce.api.problems import Problem
from vivavoce.api.services import Services, now
from vivavoce.ledger.tables import Consent, Job, Output
from vivavoce.release.door import Released, Withheld, open_output


def serve(services: Services, caller: Caller, job: Job) -> Response:
    """Hand out the sound of a job that succeeded: consent is asked once more, and the delivery is logged before it.

    Raises:
        Problem: 403, the output is withheld; the code says why.
        LogUnavailable: The delivery cannot be logged, so nothing is delivered.
    """
    with services.database.write() as session:
        output_id = session.scalars(select(Output.id).where(Output.job_id == job.id)).one()
        assurance = session.get_one(Consent, job.consent_id).assurance
        handed = open_output(
            session,
            services.store,
            services.keyring,
            services.log,
            output_id,
            caller.tenant_id,
            now(),
            actor=caller.key_id,
        )
    if isinstance(handed, Withheld):
        raise Problem(403, handed.code, handed.detail)
    return audio(handed, job.id, assurance)


def audio(released: Released, job_id: str, assurance: str) -> Response:
    """Answer with released bytes."""
    if not isinstance(released, Released):
        raise TypeError("only what was released can be served")
    headers = {
        "X-Vivavoce-Output-Id": released.output_id,
        "X-Vivavoce-Job-Id": job_id,
        "X-Vivavoce-Assurance": assurance,
        "Content-Disposition": f'attachment; filename="{released.filename}"',
        # A withdrawn consent must not be outlived by a cache.
        "Cache-Control": "no-store",
    }
    return Response(released.data, media_type=released.media_type, headers=headers)

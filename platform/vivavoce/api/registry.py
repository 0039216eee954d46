"""What the registry says about the caller's own jobs and outputs. Others' do not exist for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller
from vivavoce.api.problems import Problem
from vivavoce.api.services import Services
from vivavoce.api.shapes import CandidateView, DetectionView, ResolutionView
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import Job, Output
from vivavoce.release.registered import Owned, owner

_WORKED_OUT = ("resolution", "c2pa")


def find_job(session: Session, caller: Caller, job_id: str) -> Job:
    """Read a job of the caller's tenant; raises `Problem` (404)."""
    job = session.get(Job, job_id) if is_id(job_id) else None
    if job is None or job.tenant_id != caller.tenant_id:
        raise Problem(404, "unknown_job", "There is no such job.")
    return job


def find_output(session: Session, caller: Caller, output_id: str) -> Output:
    """Read an output of the caller's tenant; raises `Problem` (404)."""
    output = session.get(Output, output_id) if is_id(output_id) else None
    if output is None or output.tenant_id != caller.tenant_id:
        raise Problem(404, "unknown_output", "There is no such output.")
    return output


def detection_view(services: Services, caller: Caller, result: dict[str, Any]) -> DetectionView:
    """Show a detection: what was heard to everybody, whose it is to the tenant whose output it is."""
    resolved: dict[str, Any] = result["resolution"] or {"identity": None, "candidates": []}
    with services.database.read() as session:
        named = _own(session, caller, resolved["identity"])
        # Once one is named, the others are nothing; so is one that as good as any sound would agree with.
        rest = [one for one in resolved["candidates"] if resolved["identity"] is None and one["false_attribution"] < 1]
        possible = [(_own(session, caller, one["identity"]), one["false_attribution"]) for one in rest]
    return DetectionView(
        **{name: result[name] for name in DetectionView.model_fields if name in result and name not in _WORKED_OUT},
        c2pa=result.get("c2pa"),
        resolution=None if named is None else _resolution(named, resolved["false_attribution"]),
        candidates=[CandidateView(output=one.output, false_attribution=doubt) for one, doubt in possible if one],
    )


def _own(session: Session, caller: Caller, identity: int | None) -> Owned | None:
    found = None if identity is None else owner(session, identity)
    return found if found is not None and found.tenant == caller.tenant_id else None


def _resolution(named: Owned, false_attribution: float) -> ResolutionView:
    return ResolutionView(
        output=named.output,
        job=named.job,
        voice=named.voice,
        consent=named.consent,
        receipt=f"/v1/outputs/{named.output}/receipt",
        false_attribution=false_attribution,
    )

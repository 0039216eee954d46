"""What the registry says about the caller's own jobs and outputs. Others' do not exist for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.gate import Caller
from vivavoce.api.problems import Problem
from vivavoce.api.services import Services
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import Job, Output

MAX_CANDIDATES = 50
"""Outputs listed for one message, newest first: a message is a bucket that several outputs may share."""


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


def resolve(services: Services, caller: Caller, result: dict[str, Any]) -> list[str]:
    """Find the caller's outputs that carry a detection's message, newest first."""
    if not result["found"] or result["message"] is None:
        return []
    mine = select(Output.id).where(Output.message == result["message"], Output.tenant_id == caller.tenant_id)
    with services.database.read() as session:
        return list(session.scalars(mine.order_by(Output.created_at.desc()).limit(MAX_CANDIDATES)))

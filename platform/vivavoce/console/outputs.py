"""`/console/outputs`: what was made, to be seen, heard and looked into. Its bytes come through the release door."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services, now
from vivavoce.api.serving import audio
from vivavoce.audit.documents import Keys
from vivavoce.audit.tags import Tag
from vivavoce.console.desk import CONSOLE_HEADERS, Operator, Reader, Reviewer, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.console.spectrogram import WIDTH, spectrogram_png
from vivavoce.console.strangers import examine
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import Consent, Job, Output, Tenant, Voice
from vivavoce.provenance.report import MEANINGS, Report, check_report, rows
from vivavoce.release.door import Released, Withheld, open_output
from vivavoce.sound import decode

router = APIRouter(prefix=f"{CONSOLE}/outputs", tags=["console"], include_in_schema=False)

_PAGE = 50


@router.get("")
def read_all(operator: Reader, here: Here, tenant: str = "", after: str = "") -> Response:
    """List outputs, newest first."""
    write_down(here, operator, Tag.OUTPUT_READ, {"tenant": tenant} if is_id(tenant) else {})
    wanted = select(Output).order_by(Output.id.desc()).limit(_PAGE + 1)
    wanted = wanted.where(Output.tenant_id == tenant) if tenant else wanted
    with here.database.read() as session:
        found = session.scalars(wanted.where(Output.id < after) if after else wanted).all()
        tenants = session.scalars(select(Tenant).order_by(Tenant.name)).all()
    older = found[_PAGE - 1].id if len(found) > _PAGE else None
    names = {one.id: one.name for one in tenants}
    return show("outputs.html", operator, rows=found[:_PAGE], tenants=tenants, names=names, tenant=tenant, next=older)


@router.get("/{output_id}")
def read(output_id: str, operator: Reader, here: Here) -> Response:
    """Show an output."""
    return _page(output_id, operator, here, None)


@router.get("/{output_id}/sound")
def hear(output_id: str, operator: Reader, here: Here) -> Response:
    """Hand out an output's sound, as to its own tenant: consent is asked once more, and the delivery is logged."""
    released, job_id, assurance = _released(here, operator, output_id)
    return audio(released, job_id, assurance)


@router.get("/{output_id}/spectrogram")
def see(output_id: str, operator: Reader, here: Here) -> Response:
    """Draw an output's sound."""
    released, _, _ = _released(here, operator, output_id)
    return _drawn(released)


@router.post("/{output_id}/marks")
async def look(output_id: str, operator: Reviewer, request: Request, here: Here) -> Response:
    """Have a worker look for the mark in an output, and show where it is."""
    released, _, _ = await run_in_threadpool(_released, here, operator, output_id)
    report = await _examined(released, request, here)
    return await run_in_threadpool(lambda: _page(output_id, operator, here, report))


def _page(output_id: str, operator: Operator, here: Services, report: Report | None) -> Response:
    with here.database.read() as session:
        output = _find(session, output_id)
    refs = {"output": output.id, "consent": output.consent_id, "subject": output.subject_id}
    write_down(here, operator, Tag.OUTPUT_READ, refs, tenant_id=output.tenant_id)
    with here.database.read() as session:
        marks = [] if report is None else report.finding.segments
        scale = WIDTH / output.seconds
        return show(
            "output.html",
            operator,
            output=output,
            job=session.get_one(Job, output.job_id),
            voice=session.get_one(Voice, output.voice_id),
            tenant=session.get_one(Tenant, output.tenant_id),
            assurance=session.get_one(Consent, output.consent_id).assurance,
            report=report,
            found=[] if report is None else rows(report),
            meaning="" if report is None else MEANINGS[report.finding.verdict],
            spans=[(scale * one.start_s, scale * min(output.seconds, one.end_s)) for one in marks],
            width=WIDTH,
        )


def _find(session: Session, output_id: str) -> Output:
    output = session.get(Output, output_id) if is_id(output_id) else None
    if output is None:
        raise Problem(404, "unknown_output", "There is no such output.")
    return output


def _released(here: Services, operator: Operator, output_id: str) -> tuple[Released, str, str]:
    with here.database.write() as session:
        output = _find(session, output_id)
        assurance, tenant_id = session.get_one(Consent, output.consent_id).assurance, output.tenant_id
        handed = open_output(
            session, here.store, here.keyring, here.log, output_id, tenant_id, now(), actor=operator.actor
        )
    if isinstance(handed, Withheld):
        raise Problem(403, handed.code, f"The output is withheld: {handed.detail}.")
    return handed, output.job_id, assurance


def _drawn(released: Released) -> Response:
    picture = spectrogram_png(decode(released.data).samples)
    return Response(picture, media_type="image/png", headers=CONSOLE_HEADERS)


async def _examined(released: Released, request: Request, here: Services) -> Report:
    _, signed = await examine(here, request, released.data)
    return check_report(signed.encode(), Keys.of(here.keyring, here.log.origin)).report

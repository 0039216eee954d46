"""`/detect`: anybody asks whether a sound comes from here. Nothing of the sound is kept, and nobody is named.

The finding goes to the asker as a signed report. It comes back from there to be made into a PDF, so that it need not
be kept either.
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse

from vivavoce.api.gate import PUBLIC
from vivavoce.api.problems import Problem
from vivavoce.api.services import Here, Services
from vivavoce.api.shapes import FormBody
from vivavoce.audit.documents import Keys
from vivavoce.audit.errors import DocumentBroken
from vivavoce.console.pages import ASSETS, HEADERS, browses, page
from vivavoce.console.strangers import Patience, examine
from vivavoce.console.waveform import waveform
from vivavoce.provenance.report import MEANINGS, Report, check_report, rows
from vivavoce.sound import SoundError

router = APIRouter(tags=["public detection"])


class PublicForm(FormBody):
    """The sound in question."""

    file: UploadFile


class ReportForm(FormBody):
    """A report that was given out here."""

    report: str


@router.get(PUBLIC, include_in_schema=False)
def ask(request: Request, here: Here) -> Response:
    """Show the page on which a file is dropped."""
    _patience(request).require_open()
    return _asking(here)


@router.post(PUBLIC)
async def look(
    form: Annotated[PublicForm, Form(media_type="multipart/form-data")], request: Request, here: Here
) -> Response:
    """Look for our mark and our manifest in a sound, without a key; a browser gets a page, others the signed report."""
    browser = browses(request)
    try:
        _patience(request).spend(request)
        sound, signed = await examine(here, request, await run_in_threadpool(form.file.file.read))
    except Problem as problem:
        if not browser:
            raise
        return _asking(here, problem.status_code, str(problem.detail))
    except SoundError as error:
        if not browser:
            raise
        return _asking(here, 422, error.detail)
    if not browser:
        return JSONResponse(json.loads(signed), headers={"Cache-Control": "no-store"})
    report = _checked(here, signed)
    drawn = waveform(sound.samples, sound.sample_rate, report.finding.segments)
    meaning = MEANINGS[report.finding.verdict]
    return page("finding.html", report=report, rows=rows(report), meaning=meaning, wave=drawn, signed=signed)


@router.post(PUBLIC + "/report.pdf", include_in_schema=False)
def as_pdf(form: Annotated[ReportForm, Form()], here: Here) -> Response:
    """Make a PDF of a report that was signed here."""
    # Here, not above: the API starts sooner without what draws pages.
    from vivavoce.console.report_pdf import report_pdf

    report = _checked(here, form.report)
    headers = _attached(f"{report.report_id}.pdf")
    # door: a report's words and rectangles, and no sound
    return Response(report_pdf(report, form.report), media_type="application/pdf", headers=headers)


@router.post(PUBLIC + "/report.json", include_in_schema=False)
def as_json(form: Annotated[ReportForm, Form()], here: Here) -> Response:
    """Hand a report back as a file."""
    report = _checked(here, form.report)
    return JSONResponse(json.loads(form.report), headers=_attached(f"{report.report_id}.json"))


@router.get(PUBLIC + "/keys", response_class=PlainTextResponse)
def keys(here: Here) -> PlainTextResponse:
    """Give the public keys that reports and receipts are checked with."""
    return PlainTextResponse(str(Keys.of(here.keyring, here.log.origin)))


@router.get("/static/{name}", include_in_schema=False)
def asset(name: str) -> PlainTextResponse:
    """Give what the pages load."""
    if name not in ASSETS:
        raise Problem(404, "not_found", "There is nothing at this address.")
    text, media_type = ASSETS[name]
    return PlainTextResponse(text, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


def _asking(here: Services, status: int = 200, problem: str | None = None) -> Response:
    return page("detect.html", status, minutes=here.settings.public_max_seconds / 60, problem=problem)


def _checked(here: Services, signed: str) -> Report:
    try:
        # A browser sends line ends as it likes; the signature is over the content.
        return check_report(signed.encode(), Keys.of(here.keyring, here.log.origin)).report
    except DocumentBroken as error:
        raise Problem(400, "report_broken", "This is no report that was signed here.") from error


def _attached(name: str) -> dict[str, str]:
    return HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}


def _patience(request: Request) -> Patience:
    patience = request.app.state.patience
    assert isinstance(patience, Patience)  # noqa: S101 - set before the first request
    return patience

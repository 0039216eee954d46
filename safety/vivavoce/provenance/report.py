"""A detection's report: one signed file that says what was found in a sound, for whoever holds the sound.

As a signed document it carries the log's own entry about the finding. It names nobody: no output, no customer and no
speaker; the sound appears by its digest only.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, ValidationError
from sqlalchemy.orm import Session

from vivavoce.audit.documents import Keys, Kind, LogEvidence, Part, evidence, open_signed, proven, sign
from vivavoce.audit.errors import DocumentBroken
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Job

SCHEMA = "vivavoce detection report 1"
ATTACHMENT = "report.json"
"""What the signed file is called inside a PDF."""

MEANINGS = {
    "ours": "The sound carries the mark of this installation: it was made here by a trained algorithm.",
    "ours_modified": "The sound carries the mark of this installation, and was changed after it was made, or is only "
    "in part from here.",
    "not_detected": "No mark of this installation was found. That does not show that a person spoke: the sound may "
    "come from elsewhere, or the mark may have been destroyed.",
    "inconclusive": "Nothing can be said: the sound is too short, too quiet, or carries only what anybody can make.",
}
"""What each verdict does and does not say."""


class Sound(Part):
    """What was looked at."""

    sha256: str
    size_bytes: int
    seconds: float


class Segment(Part):
    """A stretch that carries the mark."""

    start_s: float
    end_s: float


class Finding(Part):
    """What the detector says; see `vivavoce.watermark.Detection`."""

    verdict: str
    reason: str
    score: float
    threshold: float
    segments: tuple[Segment, ...]
    speed: float
    pitch: float
    model_id: str


class Manifest(Part):
    """What the C2PA manifest in the file says."""

    state: str
    reason: str
    generated: bool
    signer: str | None
    created_at: str | None
    names_the_mark: bool | None


class Report(Part):
    """What is signed."""

    schema_version: str
    report_id: str
    issued_at: AwareDatetime
    installation: str
    sound: Sound
    finding: Finding
    manifest: Manifest | None
    log: LogEvidence


@dataclass(frozen=True)
class CheckedReport:
    """A sound report, and the size of the log that it was proven in."""

    report: Report
    log_size: int


def issue_report(
    session: Session, log: Log, keyring: KeyRing, job: Job, sha256: str, size_bytes: int, now: datetime
) -> str:
    """Sign what a detection found, with the log's entry about it; returns the file's text.

    Args:
        job: A detection that succeeded.
        sha256: Digest (hex) of the file that was looked at.

    Raises:
        LogUnavailable, LogBroken: As `Log.checkpoint`.
    """
    assert job.result is not None and job.outcome_leaf is not None  # noqa: S101 - it succeeded
    said: dict[str, Any] = job.result
    claimed = said.get("c2pa")
    report = Report(
        schema_version=SCHEMA,
        report_id=new_id("rep"),
        issued_at=now,
        installation=log.origin,
        sound=Sound(sha256=sha256, size_bytes=size_bytes, seconds=float(said["seconds"])),
        finding=Finding(
            segments=tuple(Segment(**one) for one in said["segments"]),
            **{name: said[name] for name in Finding.model_fields if name != "segments"},
        ),
        manifest=None if claimed is None else Manifest(**{name: claimed[name] for name in Manifest.model_fields}),
        log=evidence(session, log, [job.outcome_leaf]),
    )
    return sign(report, Kind.REPORT, keyring, log.origin)


def check_report(data: bytes, keys: Keys) -> CheckedReport:
    """Check a report, JSON or the PDF made of it: signature, the log's signed head, and that the log says the same.

    Raises:
        DocumentBroken: Names what is wrong.
    """
    said = open_signed(attached(data) if data.startswith(b"%PDF-") else data, Kind.REPORT, keys)
    try:
        report = Report.model_validate_json(json.dumps(said))
    except ValidationError as error:
        raise DocumentBroken("form", "signed, but not a report of a form that this program knows") from error
    if report.schema_version != SCHEMA:
        raise DocumentBroken("form", f"of the form {report.schema_version!r}, which this program does not know")
    size, leaves = proven(report.log, keys)
    if [leaf["tag"] for leaf in leaves] != [Tag.DETECT_OUTCOME]:
        raise DocumentBroken("log entries", "not the one of a detection's outcome")
    facts, found = leaves[0]["facts"], report.finding
    told = {"score": found.score, "threshold": found.threshold, "speed": found.speed, "pitch": found.pitch}
    for name, claimed in (told | {"seconds": report.sound.seconds}).items():
        if facts.get(name) != claimed:
            raise DocumentBroken(name, "the log says something else")
    if datetime.fromisoformat(leaves[0]["time"]) > report.issued_at:
        raise DocumentBroken("issued_at", "before the log's entry about the detection")
    return CheckedReport(report, size)


def require_about(report: Report, sound: bytes, name: str) -> None:
    """Refuse a sound that the report is not about; raises `DocumentBroken`."""
    if hashlib.sha256(sound).hexdigest() != report.sound.sha256:
        raise DocumentBroken(name, "the report is about another file")


def rows(report: Report) -> list[tuple[str, str]]:
    """What a report says, name by name, for people."""
    found, sound, claimed = report.finding, report.sound, report.manifest
    marked = ", ".join(f"{one.start_s:.2f}-{one.end_s:.2f} s" for one in found.segments)
    said = "not looked for" if claimed is None else f"{claimed.state}{f': {claimed.reason}' if claimed.reason else ''}"
    return [
        ("Why", found.reason or "-"),
        ("Score", f"{found.score:.2f}; found from {found.threshold:.2f}. One unmarked sound in 10 to this power, at "
         "most, looks like this."),
        ("Marked parts", marked or "none"),
        ("Speed and pitch", f"{found.speed:.3f} and {found.pitch:.3f} times those it was made with"),
        ("C2PA manifest", said),
        ("Sound", f"{sound.seconds:.2f} s, {sound.size_bytes:,} bytes, SHA-256 {sound.sha256}"),
        ("Detector", found.model_id),
        ("Installation", report.installation),
        ("Issued", f"{report.issued_at:%Y-%m-%d %H:%M:%S} UTC, report {report.report_id}"),
    ]  # fmt: skip


def attached(pdf: bytes) -> bytes:
    """Take the signed file out of a PDF.

    Raises:
        DocumentBroken: There is none in it.
    """
    # Here, not above: whoever checks the JSON needs no reader for PDF.
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        found = PdfReader(io.BytesIO(pdf)).attachments.get(ATTACHMENT, [])
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentBroken("file", "not a PDF that can be read") from error
    if len(found) != 1:
        raise DocumentBroken("file", "a PDF without the signed report in it")
    return bytes(found[0])

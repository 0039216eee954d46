"""`vivavoce detect`: does a sound file carry our mark, or our manifest? Asks this machine, and no server.

Or: does a report that says so hold? For that, nothing but the installation's public keys is needed.

Beside `vivavoce.watermark` and not in it, since that package loads torch: the list of commands must not take seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.audit.documents import Keys
from vivavoce.audit.errors import DocumentBroken, NoteInvalid
from vivavoce.ledger.database import Database
from vivavoce.ledger.errors import LedgerError
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import require_head
from vivavoce.provenance import (
    Provenance,
    ProvenanceError,
    ProvenanceSettings,
    binds,
    read_provenance,
    trusted_roots,
)
from vivavoce.provenance.report import MEANINGS, check_report, require_about, rows
from vivavoce.release.registered import identities, owner
from vivavoce.sound import Samples, SoundError, SoundStream, open_sound

if TYPE_CHECKING:
    from vivavoce.watermark import Detection, Marker, Reading, Resolution

_NOT_FOUND, _FAILED = 1, 2

_out = Console(soft_wrap=True)
_WIDE = 250
"""Columns where nobody looks on: in a pipe or file no remark may be cut."""
_err = Console(stderr=True, soft_wrap=True)


@dataclass(frozen=True)
class _Detector:
    """The marks of the installation on this machine, if there is one: else the public mark, and nobody to name."""

    marker: Marker
    registry: Database | None
    mark_key: bytes | None
    roots: str
    """Authorities under which a manifest's signature counts as ours."""

    def resolve(self, reading: Reading) -> Resolution:
        """Ask all identities of the registry; nobody is named where there is none."""
        if self.registry is None:
            return self.marker.code.resolve(reading, [])
        with self.registry.read() as session:
            return self.marker.code.resolve(reading, identities(session))


def detect(
    files: Annotated[list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Sound files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Folder of the watermark's weights; else those shipped.")] = None,
    verify_report: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Check this report (JSON or PDF) instead.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Public keys of the installation it is from.")
    ] = None,
) -> None:
    """Look for our mark and our manifest in sound files; or check a report, and that it is about these files.

    Works with the keys of the installation in VIVAVOCE_HOME, if there is one.

    Exit status: 0 one of the two found in all, 1 neither found in some, 2 something failed or could not be told. For a
    report: 0 it holds, 1 it does not.
    """
    if verify_report is not None:
        _verify(verify_report, key, files or [])
        return
    if not files:
        raise typer.BadParameter("name at least one sound file", param_hint="FILES")
    findings = []
    with Progress(console=_err, transient=True) as progress:
        task = progress.add_task("Loading the detector", total=len(files))
        with _detector(weights) as detector:
            for file in files:
                findings.append(_examine(detector, file, partial(_show, progress, task, file)))
                progress.advance(task)
    for finding in findings:
        if as_json:
            typer.echo(json.dumps(finding))
    if not as_json:
        Console(width=None if _out.is_terminal else _WIDE).print(_table(findings))
    verdicts = {finding["verdict"] for finding in findings if finding.get("c2pa", {}).get("state") != "valid"}
    untold = verdicts & {"error", "inconclusive"}
    raise typer.Exit(_FAILED if untold else _NOT_FOUND if "not_detected" in verdicts else 0)


def _verify(report: Path, key: Path | None, files: list[Path]) -> None:
    if key is None:
        raise typer.BadParameter("a report is checked with the installation's public keys", param_hint="--key")
    try:
        checked = check_report(report.read_bytes(), Keys.parse(key.read_text(errors="replace")))
        for file in files:
            require_about(checked.report, file.read_bytes(), str(file))
    except (DocumentBroken, NoteInvalid) as error:
        _err.print(f"[bold white on red] NOT VERIFIED [/] {escape(str(error))}")
        raise typer.Exit(_NOT_FOUND) from error
    _out.print(f"[bold green]Verified[/] {checked.report.report_id}, in the signed log of {checked.log_size:,} entries")
    table = Table(show_header=False, box=None)
    verdict = checked.report.finding.verdict
    for name, value in [("Verdict", verdict), ("Meaning", MEANINGS.get(verdict, "")), *rows(checked.report)]:
        table.add_row(name, escape(value))
    _out.print(table)


@contextmanager
def _detector(weights: Path | None) -> Iterator[_Detector]:
    settings = ProvenanceSettings()
    # Here, not above: a command that is only listed, or whose settings are wrong, need not load torch.
    import torch

    from vivavoce.watermark import Marker
    from vivavoce.watermark.errors import MarkError

    torch.set_num_threads(1)
    try:
        secret = KeyRing.open(settings.keys_folder).mark_key if settings.keys_folder.is_dir() else None
        marker = Marker.load(weights, secret=secret)
        registry = _registry(settings) if secret is not None else None
        roots = trusted_roots(settings)
    except (MarkError, LedgerError, ProvenanceError, SQLAlchemyError) as error:
        _err.print(f"[bold red]The detector cannot be loaded:[/] {escape(str(error))}")
        raise typer.Exit(_FAILED) from error
    if secret is None:
        _err.print(f"No keys in {escape(str(settings.keys_folder))}: only the public mark is looked for.")
    elif registry is None:
        _err.print("There is no registry here: no output can be named.")
    yield _Detector(marker, registry, secret, roots)
    if registry is not None:
        registry.close()


def _registry(settings: ProvenanceSettings) -> Database | None:
    """The installation's registry; None where there is no such file, which asking for it would make."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        return None
    require_head(settings.database_url)
    return Database(settings.database_url)


def _examine(detector: _Detector, file: Path, show: Callable[[float], None]) -> dict[str, Any]:
    show(0.0)
    try:
        stream = open_sound(file)
        blocks = _shown(stream, show)
        found = detector.marker.detect_blocks(
            blocks, stream.sample_rate, who=lambda reading: detector.resolve(reading).identity
        )
        claimed = read_provenance(file, detector.roots)
    except (SoundError, OSError) as error:
        return {"file": str(file), "verdict": "error", "error": str(error)}
    heard = {name: value for name, value in asdict(found).items() if name != "reading"}
    return {"file": str(file), **heard, **_origin(detector, found, claimed)}


def _shown(stream: SoundStream, show: Callable[[float], None]) -> Iterator[Samples]:
    """The blocks of a stream, telling with each how many seconds there were so far."""
    samples = 0
    for block in stream.blocks:
        yield block
        samples += len(block)
        show(samples / stream.sample_rate)


def _show(progress: Progress, task: TaskID, file: Path, seconds: float) -> None:
    progress.update(task, description=f"{escape(file.name)}, {seconds / 60:.1f} min")


def _origin(detector: _Detector, found: Detection, claimed: Provenance) -> dict[str, Any]:
    """Whose the mark is, what the manifest says, and whether they agree; for the operator, who may know all."""
    c2pa = asdict(claimed) | {"names_the_mark": None}
    if detector.registry is None or found.reading is None:
        return {"resolution": None, "candidates": [], "c2pa": c2pa}
    resolution = detector.resolve(found.reading)
    with detector.registry.read() as session:
        named = owner(session, resolution.identity) if resolution.identity is not None else None
        rest = [(owner(session, one.identity), one.false_attribution) for one in resolution.candidates]
    if claimed.binding is not None and resolution.identity is not None and detector.mark_key is not None:
        c2pa["names_the_mark"] = binds(detector.mark_key, resolution.identity, claimed.binding)
    asked = {"false_attribution": resolution.false_attribution, "searched": resolution.searched}
    candidates = [{"output": one.output, "false_attribution": doubt} for one, doubt in rest if one and doubt < 1]
    if named is None:
        return {"resolution": None, "candidates": candidates, "c2pa": c2pa}
    return {"resolution": asdict(named) | asked, "candidates": [], "c2pa": c2pa}


def _table(findings: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading in ("file", "verdict", "score", "output", "marked parts (s)", "manifest", "remarks"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        if finding["verdict"] == "error":
            table.add_row(escape(finding["file"]), "[red]error[/]", "", "", "", "", escape(finding["error"]))
            continue
        parts = ", ".join(f"{part['start_s']:.2f}-{part['end_s']:.2f}" for part in finding["segments"])
        verdict = finding["verdict"].replace("_", " ")
        score = f"{finding['score']:.1f} (found from {finding['threshold']:.1f})"
        output = finding["resolution"]["output"] if finding["resolution"] else ""
        c2pa, remarks = finding["c2pa"], finding["reason"]
        if c2pa["names_the_mark"] is False:
            remarks = f"the manifest is not that of the mark; {remarks}".removesuffix("; ")
        cells = (score, output, parts, c2pa["state"], escape(remarks))
        table.add_row(escape(finding["file"]), f"[bold]{verdict}[/]", *cells)
    return table

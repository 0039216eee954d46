"""`vivavoce detect`: does a sound file carry our mark? Asks the detector on this machine, and no server.

Beside `vivavoce.watermark` and not in it, since that package loads torch: the list of commands must not take seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from vivavoce.sound import MIN_MARKED_SECONDS, SoundError, decode, require_speech

if TYPE_CHECKING:
    from vivavoce.watermark import Marker

_NOT_FOUND, _FAILED = 1, 2

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


def detect(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Sound files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Folder of the watermark's weights; else those shipped.")] = None,
) -> None:
    """Look for our mark in sound files. Exit status: 0 found in all, 1 not found in some, 2 something failed."""
    findings = []
    with Progress(console=_err, transient=True) as progress:
        task = progress.add_task("Loading the detector", total=len(files))
        marker = _load(weights)
        for file in files:
            progress.update(task, description=escape(file.name))
            findings.append(_examine(marker, file))
            progress.advance(task)
    for finding in findings:
        if as_json:
            typer.echo(json.dumps(finding))
    if not as_json:
        _out.print(_table(findings))
    verdicts = {finding["verdict"] for finding in findings}
    raise typer.Exit(_FAILED if "error" in verdicts else _NOT_FOUND if "not_detected" in verdicts else 0)


def _load(weights: Path | None) -> Marker:
    # Here, not above: a command that is only listed need not load torch.
    import torch

    from vivavoce.watermark import Marker
    from vivavoce.watermark.errors import MarkError

    torch.set_num_threads(1)
    try:
        return Marker.load(weights)
    except MarkError as error:
        _err.print(f"[bold red]The detector cannot be loaded:[/] {escape(str(error))}")
        raise typer.Exit(_FAILED) from error


def _examine(marker: Marker, file: Path) -> dict[str, Any]:
    try:
        sound = decode(file.read_bytes())
        require_speech(sound, MIN_MARKED_SECONDS)
    except (SoundError, OSError) as error:
        return {"file": str(file), "verdict": "error", "error": str(error)}
    found = marker.detect(sound.samples, sound.sample_rate)
    verdict = "ours" if found.found else "not_detected"
    return {"file": str(file), "verdict": verdict, "seconds": round(sound.seconds, 2), **asdict(found)}


def _table(findings: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("file", overflow="fold")
    for heading in ("verdict", "score", "threshold", "message", "marked parts (s)"):
        table.add_column(heading)
    for finding in findings:
        if finding["verdict"] == "error":
            table.add_row(escape(finding["file"]), "[red]error[/]", escape(finding["error"]))
            continue
        parts = ", ".join(f"{part['start_s']:.2f}-{part['end_s']:.2f}" for part in finding["segments"])
        verdict = "[bold]ours[/]" if finding["found"] else "not detected"
        message = "" if finding["message"] is None else str(finding["message"])
        figures = (f"{finding['score']:.3f}", f"{finding['threshold']:.3f}", message, parts)
        table.add_row(escape(finding["file"]), verdict, *figures)
    return table

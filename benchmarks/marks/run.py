"""Run a plan's jobs on two processes, keeping every finished one, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.marks.edits import EDITS
from benchmarks.marks.measure import Bench
from benchmarks.marks.plan import SEED, Job, Plan, Row
from benchmarks.marks.systems import Ours
from vivavoce import watermark
from vivavoce.watermark.weights import SHIPPED

_bench: Bench | None = None  # of a worker process


class OtherRun(Exception):
    """The folder holds records of another run: other marks, clips, edits or systems."""


def run(plan: Plan, processes: int) -> dict[str, Any]:
    """Measure whatever is not yet on record.

    Returns:
        What is on record about the run itself: model, threshold, clips.

    Raises:
        OtherRun: the folder is another run's.
    """
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the processes that are started
    about = _about(plan)
    records = plan.folder / "records.jsonl"
    finished = list(_lines(records))
    records.write_text("".join(json.dumps(line) + "\n" for line in finished))  # less a line that a kill cut short
    done = {line["job"] for line in finished}
    left = [job for job in plan.jobs() if job.key not in done]
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
    with (
        progress,
        records.open("a") as file,
        ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(plan,)) as pool,
    ):
        task = progress.add_task("measuring", total=len(plan.jobs()), completed=len(plan.jobs()) - len(left))
        # Speed alone, before anything else disturbs it.
        for together in ([job for job in left if job.kind == "speed"], [job for job in left if job.kind != "speed"]):
            futures = {pool.submit(_measure, job): job for job in together}
            for future in as_completed(futures):
                file.write(json.dumps({"job": futures[future].key, "rows": future.result()}) + "\n")
                file.flush()
                progress.advance(task)
    return about


def recorded(folder: Path) -> dict[str, Any]:
    """What is on record about a run.

    Raises:
        FileNotFoundError: there is no run in the folder.
    """
    about: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return about


def rows(folder: Path, kind: str) -> list[Row]:
    """Everything on record of one kind of job."""
    return [
        row for line in _lines(folder / "records.jsonl") if line["job"].startswith(f"{kind}/") for row in line["rows"]
    ]


def _about(plan: Plan) -> dict[str, Any]:
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / "run.json"
    ours = Ours(plan.weights).marker
    about: dict[str, Any] = {
        "model": ours.model_id,
        "threshold": ours.threshold,
        "digest": _digest(plan.weights or SHIPPED),
        "seed": SEED,
        "systems": list(plan.systems),
        "edits": [edit.name for edit in EDITS],
        "clips": [[clip.name, clip.speaker, clip.source] for clip in plan.clips],
    }
    if path.exists():
        if json.loads(path.read_text()) != about:
            raise OtherRun(f"{plan.folder} holds another run; name another folder or remove it")
    else:
        path.write_text(json.dumps(about, indent=1))
    return about


def _digest(weights: Path) -> str:
    """Of the marks' code and weights: what was measured is told by it, and a run does not go on with other marks."""
    digest = hashlib.sha256()
    for file in sorted([*Path(watermark.__file__).parent.rglob("*.py"), *weights.iterdir()]):
        digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text().splitlines() if line.endswith("}"))


def _start(plan: Plan) -> None:
    global _bench  # noqa: PLW0603 - one per process
    torch.set_num_threads(1)
    _bench = Bench(plan)


def _measure(job: Job) -> list[Row]:
    assert _bench is not None  # noqa: S101 - the pool's initializer has run
    return _bench.run(job)

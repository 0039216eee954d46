"""`vivavoce train tokenizer` and `vivavoce train voice`: from speech to the two halves of a voice model.

Beside `vivavoce.model` and not in it, since that package loads torch: the list of commands must not take seconds. With
several graphics cards, or several processors, torch's launcher starts as many processes:

    torchrun --nproc-per-node 8 .venv/bin/vivavoce train voice --device cuda ...
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vivavoce.model.training.loop import Plan, Progress, Task

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

Data = Annotated[
    list[Path],
    typer.Option(exists=True, file_okay=False, help="Folder of speech; given several times, each has an equal share."),
]
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; an interrupted run in it goes on.")]
Steps = Annotated[int, typer.Option(min=1, help="End of the schedule: the exact way to repeat a run.")]
Minutes = Annotated[float, typer.Option(help="Stop after this long, wherever the schedule stands.")]
Seed = Annotated[int, typer.Option(help="Everything random is drawn from it.")]
Rows = Annotated[int, typer.Option(min=1, help="Examples that are computed at once, in each process.")]
Accumulate = Annotated[int, typer.Option(min=1, help="Batches that make one step.")]
Device = Annotated[str, typer.Option(help="cpu (one thread), or cuda.")]
Exact = Annotated[bool, typer.Option("--float32", help="Compute in float32 instead of bfloat16.")]


def tokenizer(
    data: Data,
    out: Out,
    steps: Steps,
    start: Annotated[
        Path | None,
        typer.Option("--from", exists=True, file_okay=False, help="Stage 2 of this tokenizer: its decoder alone."),
    ] = None,
    minutes: Minutes = float("inf"),
    seed: Seed = 1,
    rows: Rows = 12,
    accumulate: Accumulate = 1,
    rate: Annotated[float | None, typer.Option(help="Learning rate; else 0.0015, in stage 2 0.0003.")] = None,
    device: Device = "cpu",
    exact: Exact = False,
) -> None:
    """Train the audio tokenizer. The run's folder is a checkpoint folder, with the run's log and curve (SVG)."""
    from vivavoce.model.errors import ModelError
    from vivavoce.model.training import adversarial, distributed, tokenizer
    from vivavoce.model.training.loop import Plan

    place = distributed.start(device)
    recipe = tokenizer.Recipe(tuple(data), steps, seed, rows, bf16=not exact)
    try:
        task: Task = (
            tokenizer.Reconstruction(recipe, device=place)
            if start is None
            else adversarial.Refinement(recipe, start, device=place)
        )
    except (FileNotFoundError, ModelError) as error:
        _fail(error)
    plan = Plan(steps, seed, rate or (1.5e-3 if start is None else 3e-4), accumulate=accumulate, betas=(0.8, 0.99))
    _run(task, plan, out, minutes)


def voice(
    data: Data,
    codec: Annotated[Path, typer.Option("--tokenizer", exists=True, file_okay=False, help="Tokenizer of the codes.")],
    out: Out,
    steps: Steps,
    minutes: Minutes = float("inf"),
    seed: Seed = 1,
    rows: Rows = 16,
    accumulate: Accumulate = 1,
    rate: Annotated[float, typer.Option(help="Learning rate after the warm-up.")] = 1.5e-3,
    start: Annotated[
        Path | None, typer.Option("--from", exists=True, file_okay=False, help="Weights to begin with.")
    ] = None,
    stage: Annotated[
        int, typer.Option(min=1, max=2, help="1: to understand, text of speech alone; 2: everything together.")
    ] = 2,
    device: Device = "cpu",
    exact: Exact = False,
) -> None:
    """Train the language model on folders that `vivavoce data encode` prepared; measure it on what they hold out."""
    from vivavoce.model.errors import ModelError
    from vivavoce.model.training import distributed, voice
    from vivavoce.model.training.loop import Plan

    place = distributed.start(device)
    try:
        recipe = voice.Recipe(tuple(data), codec, seed, rows, not exact, stage)
        task = voice.Speaking(recipe, device=place)
        if start is not None:
            task.begin_with(start)
    except (FileNotFoundError, ModelError) as error:
        _fail(error)
    _run(task, Plan(steps, seed, rate, accumulate=accumulate, weight_decay=0.02), out, minutes)
    if distributed.rank() == 0:
        shown = " ".join(f"{name} {value:.3f}" for name, value in task.evaluate(48).items())
        _out.print(f"held out, nats: {shown}", markup=False)


def _run(task: Task, plan: Plan, out: Path, minutes: float) -> None:
    import torch

    from vivavoce.model.errors import ModelError
    from vivavoce.model.training import distributed
    from vivavoce.model.training.loop import Loop

    torch.set_num_threads(1)
    try:
        loop = Loop(task, plan, out)
    except ModelError as error:
        _fail(error)
    end = time.monotonic() + minutes * 60
    with Live(_line(loop.progress, plan), console=_err, refresh_per_second=1) as live:
        loop.run(until=lambda _: time.monotonic() > end, show=lambda progress: live.update(_line(progress, plan)))
    distributed.stop()
    _out.print(f"{out}: step {loop.progress.step:,} of {plan.steps:,}", markup=False)


def _fail(error: Exception) -> NoReturn:
    _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
    raise typer.Exit(1) from error


def _line(progress: Progress, plan: Plan) -> Table:
    each = progress.seconds / max(1, progress.step)
    left = (plan.steps - progress.step) * each / 60
    row = {"step": f"{progress.step:,} of {plan.steps:,}", "left": f"{left:.0f} min"}
    row |= {name.removeprefix("_"): f"{value:.3f}" for name, value in progress.losses.items()}
    table = Table(*row, box=None, pad_edge=False)
    table.add_row(*row.values())
    return table

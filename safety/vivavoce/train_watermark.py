"""`vivavoce train watermark`, `watermark-export` and `watermark-import`: from speech to a folder of weights.

Beside `vivavoce.watermark` and not in it, since that package loads torch: the list of commands must not take seconds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    from vivavoce.watermark.training.export import Trained
    from vivavoce.watermark.training.loop import Progress

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

Data = Annotated[
    list[Path], typer.Option(exists=True, file_okay=False, help="Folder of speech files; may be given several times.")
]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; an interrupted run in it goes on.")],
    start: Annotated[Path | None, typer.Option("--from", exists=True, help="Folder of weights to begin with.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this long.")] = float("inf"),
    steps: Annotated[int, typer.Option(help="Stop at this step: the exact way to repeat a run.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Everything random is drawn from it.")] = 1,
    target_db: Annotated[float, typer.Option(help="Level that the mark comes down to, in dB below the speech.")] = 21.0,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="One more edit for the marks to survive: package.module:function, given samples (float32) and their "
            "rate in Hz. May be given several times."
        ),
    ] = None,
    disguise: Annotated[
        list[str] | None,
        typer.Option(help="The same for what speech goes through before it is marked, such as a vocoder."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu (one thread), or cuda.")] = "cpu",
) -> None:
    """Train the mark's generator and detector. The run's folder holds its checkpoint, its log and its curve (SVG)."""
    import torch

    from vivavoce.watermark.errors import MarkError
    from vivavoce.watermark.training.data import Speech, speech_files
    from vivavoce.watermark.training.loop import Plan, Trainer
    from vivavoce.watermark.weights import load

    torch.set_num_threads(1)
    try:
        begin = load(start, device)[0] if start else None
        # Bits first and loud; whoever begins with trained networks can begin softer.
        plan = Plan(
            seed=seed,
            target_db=target_db,
            edits=tuple(edit or ()),
            disguises=tuple(disguise or ()),
            start_db=2.0 if begin else -8.0,
        )
        speech = Speech(speech_files(data, held_out=False))
        trainer = Trainer(plan, speech, out, start=begin, device=device)
    except (FileNotFoundError, MarkError, ValueError) as error:
        _fail(error)
    _out.print(f"{speech.seconds / 60:.0f} minutes of speech")
    end = time.monotonic() + minutes * 60
    with Live(_line(trainer.progress, steps, end), console=_err, refresh_per_second=1) as live:
        trainer.run(
            until=lambda p: p.step >= steps or time.monotonic() > end,
            show=lambda p: live.update(_line(p, steps, end)),
        )
    _out.print(f"{out}: step {trainer.progress.step}, {trainer.progress.snr_db:.1f} dB", markup=False)


Out = Annotated[Path, typer.Argument(file_okay=False, help="Folder to write.")]
Name = Annotated[str, typer.Option(help="Name of the weights, for records.")]
Clips = Annotated[int, typer.Option(min=1, help="Held-out clips to calibrate on.")]


def export(
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the run.")],
    out: Out,
    data: Data,
    name: Name,
    level_db: Annotated[float | None, typer.Option(help="Level below the speech; else where the run stands.")] = None,
    clips: Clips = 60,
) -> None:
    """Write a run's networks as weights; their threshold comes from clips of `data` that training never read."""
    from vivavoce.watermark.training.export import read_run

    try:
        trained = read_run(run)
    except ValueError as error:
        _fail(error)
    _calibrated(trained, trained.level_db if level_db is None else level_db, out, data, name, clips)


def bring_in(
    generator: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Such as generator_base.pth.")],
    detector: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Such as detector_base.pth.")],
    out: Out,
    data: Data,
    name: Name,
    streaming: Annotated[bool, typer.Option(help="They are the causal checkpoints, called streaming.")] = False,
    clips: Clips = 60,
) -> None:
    """Write AudioSeal's published checkpoints as weights; their threshold comes from clips of `data`.

    They are for VIVAVOCE_MARKER_FOLDER or `vivavoce detect --weights`. Nothing in the files is run.
    """
    from vivavoce.watermark.training.published import read_published

    try:
        trained = read_published(generator, detector, streaming=streaming)
    except ValueError as error:
        _fail(error)
    _calibrated(trained, None, out, data, name, clips)


def _calibrated(trained: Trained, level_db: float | None, out: Path, data: list[Path], name: str, clips: int) -> None:
    import torch

    from vivavoce.watermark.training.export import calibrate, held_out_clips, write

    torch.set_num_threads(1)
    try:
        chosen = list(held_out_clips(data, clips))
    except (FileNotFoundError, ValueError) as error:
        _fail(error)
    scores = calibrate(trained, level_db, track(chosen, "Calibrating", console=_err))
    write(out, trained, name, level_db, scores)
    _out.print(f"{out}: threshold {scores.threshold}", scores.summary, markup=False)


def _fail(error: Exception) -> NoReturn:
    _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
    raise typer.Exit(1) from error


def _line(progress: Progress, steps: int, end: float) -> Table:
    left = max(0.0, end - time.monotonic())
    row = {
        "step": f"{progress.step:,} of {steps:,}",
        "mark": f"{progress.snr_db:.1f} dB below",
        "bits": f"{progress.bits:.3f}",
        "presence": f"{progress.presence:.3f}",
        "loss": f"{progress.loss:.3f}",
        "time left": "" if left == float("inf") else f"{left / 60:.0f} min",
    }
    table = Table(*row, box=None, pad_edge=False)
    table.add_row(*row.values())
    return table

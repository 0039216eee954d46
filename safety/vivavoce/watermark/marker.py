"""Both marks put into a sound, and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vivavoce.sound import MIN_MARKED_SECONDS
from vivavoce.watermark.code import IDENTITY_BITS, Code, Reading
from vivavoce.watermark.errors import MarkError
from vivavoce.watermark.keyed.layout import Layout
from vivavoce.watermark.keyed.tracks import ENOUGH
from vivavoce.watermark.listening import SILENCE, Listener, check
from vivavoce.watermark.reading import Detection
from vivavoce.watermark.streaming import STREAM_BLOCK, WHOLE_BLOCK, MarkStream
from vivavoce.watermark.weights import SHIPPED, load

Samples = NDArray[np.float32]
Who = Callable[[Reading], int | None]


class Marker:
    """One set of weights and one operator's secret. Holds no state between calls; safe to share among threads."""

    def __init__(self, folder: Path, device: str, secret: bytes | None) -> None:
        self._networks, self._settings = load(folder, device)
        self._device = device
        self._secret = secret
        if secret is not None:  # made here, so that a marker that is shared among threads never changes
            self._layout: Layout | None = Layout(secret, self._settings.size.nbits)
            self._code: Code | None = Code(secret)
        else:
            self._layout = self._code = None

    @classmethod
    def load(cls, folder: Path | None = None, device: str = "cpu", *, secret: bytes | None = None) -> Marker:
        """Load weights from `folder` (the shipped ones by default).

        Args:
            secret: The operator's. Without it nothing can be marked, and only the learned mark can be looked for.

        Raises:
            MarkError: weights_missing, weights_broken. There is nothing to fall back to.
        """
        return cls(folder or SHIPPED, device, secret)

    @property
    def model_id(self) -> str:
        """Name of the weights, for records."""
        return self._settings.model_id

    @property
    def threshold(self) -> float:
        """The score from which on a mark counts as found."""
        return ENOUGH

    @property
    def code(self) -> Code:
        """The operator's code.

        Raises:
            MarkError: no_secret.
        """
        return self._secrets()[1]

    def stream(
        self, sample_rate: int, identity: int, strength: float = 1.0, *, block: int = STREAM_BLOCK
    ) -> MarkStream:
        """Begin to mark a sound that is still being made; arguments and errors as for `embed`."""
        layout, code = self._secrets()
        if not 0 <= identity < 2**IDENTITY_BITS:
            raise MarkError("bad_identity", f"{identity} does not fit into {IDENTITY_BITS} bits")
        return MarkStream(
            self._networks, self._settings, self._device, layout, code, sample_rate, identity, strength, block
        )

    def embed(self, samples: Samples, sample_rate: int, identity: int, strength: float = 1.0) -> Samples:
        """Put the marks of an identity into a sound.

        Args:
            samples: float32[n] mono, full scale 1.0.
            sample_rate: Hz.
            identity: 0 <= identity < 2**48.
            strength: Factor on the learned mark's amplitude and on the keyed mark's decibels.

        Returns:
            float32[n] at the same rate. It may exceed full scale by the mark; encoders must turn it down.

        Raises:
            MarkError: no_secret, bad_identity, bad_samples, too_short (under 0.5 s) or silent (nothing above -60 dBFS).
        """
        stream = self.stream(sample_rate, identity, strength, block=WHOLE_BLOCK)
        self.require(samples, sample_rate)
        return np.concatenate([stream.feed(samples), stream.finish()])

    def require(self, samples: Samples, sample_rate: int) -> None:
        """Raise `MarkError` for a sound that cannot carry a mark: bad_samples, too_short or silent."""
        check(samples, sample_rate)
        if len(samples) < MIN_MARKED_SECONDS * sample_rate:
            raise MarkError("too_short", f"a sound under {MIN_MARKED_SECONDS} s cannot carry a mark")
        if float(np.abs(samples).max()) < SILENCE:
            raise MarkError("silent", "silence cannot carry a mark")

    def detect(self, samples: Samples, sample_rate: int, *, search: bool = True, who: Who | None = None) -> Detection:
        """Look for a mark in a sound.

        Args:
            samples: float32[n] mono, full scale 1.0.
            sample_rate: Hz.
            search: Look for sounds that were sped up, stretched or pitched, too; takes longer.
            who: Asked for the identity that a reading belongs to, or None; segments have sharper borders then.

        Raises:
            MarkError: bad_samples.
        """
        return self.detect_blocks([samples], sample_rate, search=search, who=who)

    def detect_blocks(
        self, blocks: Iterable[Samples], sample_rate: int, *, search: bool = True, who: Who | None = None
    ) -> Detection:
        """Look for a mark in a sound that comes block by block; memory grows by 30 MB an hour. As `detect` else."""

        def bits(reading: Reading) -> NDArray[np.uint8] | None:
            identity = who(reading) if who else None
            return None if identity is None else self.code.bits(identity)

        listener = Listener(self._networks, self._settings, self._device, sample_rate, self._layout, search, bits)
        for block in blocks:
            listener.feed(block)
        return listener.finish()

    def doubt(self, reading: Reading, identity: int) -> float:
        """Bound the probability that a mark of another identity would be read like this (`Code.doubt`)."""
        return self.code.doubt(reading, identity)

    def _secrets(self) -> tuple[Layout, Code]:
        if self._layout is None or self._code is None:
            raise MarkError("no_secret", "this needs the operator's mark secret")
        return self._layout, self._code

"""A registry of random identities, and whose mark a reading is among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.marks.plan import generator
from vivavoce.watermark.code import IDENTITY_BITS, Code, Identities, Reading, Resolution


class _Registered(Code):
    """A code that keeps the codewords of one batch, so that thousands of readings can be resolved among them."""

    def __init__(self, secret: bytes, kept: Identities) -> None:
        super().__init__(secret)
        self._kept = kept
        self._signs = 2 * self.bits(kept).astype(np.float32) - 1

    def agreement(self, reading: Reading, identities: Identities | int) -> NDArray[np.float64]:
        """As the code's own; tests hold the two together."""
        if isinstance(identities, int) or (identities is not self._kept and identities.base is not self._kept):
            return super().agreement(reading, identities)
        first = (identities.ctypes.data - self._kept.ctypes.data) // self._kept.itemsize  # resolving takes slices
        signs = self._signs[first : first + len(identities)]
        norm = float(np.linalg.norm(reading.values.astype(np.float64)))
        return np.asarray(signs @ reading.values, dtype=np.float64) / max(norm, 1e-30)


class Registry:
    """An operator's outputs: `size` random identities, and the one that a sound was marked with."""

    def __init__(self, secret: bytes, size: int) -> None:
        self._others = generator("registry").integers(0, 2**48, size, dtype=np.uint64)
        self._code = _Registered(secret, self._others)

    def right_code_bits(self, reading: Reading | None, own: int) -> float:
        """Share of the code bits heard (values that are not 0) that are right; 0.5, chance, where none were heard."""
        if reading is None or not np.any(reading.values):
            return 0.5
        heard = reading.values != 0
        return float(np.mean((reading.values[heard] > 0) == self._code.bits(own)[heard]))

    def resolve(self, reading: Reading | None, own: int | None) -> Resolution | None:
        """Whose mark it is, among the registered and `own`, where there is one; None where nothing was read."""
        if reading is None:
            return None
        batches = [self._others] if own is None else [self._others, np.array([own], dtype=np.uint64)]
        return self._code.resolve(reading, batches)

    def whose(self, reading: Reading, own: list[int]) -> int | None:
        """The one identity that a reading is surely of, if there is one, with `own` registered too."""
        return self._code.resolve(reading, [self._others, np.array(own, dtype=np.uint64)]).identity


def named(resolution: Resolution | None, own: int | None) -> str:
    """Which identity a resolution names: "own", "wrong" or "none"."""
    if resolution is None or resolution.identity is None:
        return "none"
    return "own" if resolution.identity == own else "wrong"


def decoded_bits(resolution: Resolution | None, own: int) -> float:
    """Share of the identity's bits that are right in the likeliest candidate; 0.5, chance, where nothing was read."""
    if resolution is None or not resolution.candidates:
        return 0.5
    return 1 - (resolution.candidates[0].identity ^ own).bit_count() / IDENTITY_BITS

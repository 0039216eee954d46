"""Where the keyed mark puts what: signs, pilot and code bits of each tile, from the operator's secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.code import CODE_BITS
from vivavoce.watermark.keyed.spectrum import BANDS
from vivavoce.watermark.networks import GROUP_FRAMES

COLUMNS = 192  # of 40 ms each: the pattern repeats after 7.68 s
GROUP_COLUMNS = GROUP_FRAMES // 2  # a latent frame of the learned mark is half a column: 20 ms
GROUPS = COLUMNS // GROUP_COLUMNS


@dataclass(frozen=True)
class Layout:
    """One operator's pattern.

    Attributes:
        secret: What it is made from.
        message_bits: Bits of one message of the learned mark.
    """

    secret: bytes
    message_bits: int

    @cached_property
    def pilot(self) -> NDArray[np.float32]:
        """float32[COLUMNS, BANDS]: signs of the tiles that are known from the secret alone; 0 for the others."""
        return np.where(self._is_pilot, self._signs, 0).astype(np.float32)

    @cached_property
    def pilot_spectrum(self) -> NDArray[np.complex64]:
        """complex64[BANDS, COLUMNS / 2 + 1] of the pilot along the columns."""
        return np.asarray(np.fft.rfft(self.pilot.T, axis=-1))

    @cached_property
    def pilot_place_spectrum(self) -> NDArray[np.complex64]:
        """complex64[BANDS, COLUMNS / 2 + 1] of where the pilot is: 1 in its tiles, 0 in the others."""
        return np.asarray(np.fft.rfft(np.abs(self.pilot.T), axis=-1))

    @cached_property
    def payload(self) -> NDArray[np.float32]:
        """float32[COLUMNS, BANDS]: signs of the tiles that carry code bits, as they are for a one; 0 elsewhere."""
        return np.where(self._is_pilot, 0, self._signs).astype(np.float32)

    @cached_property
    def bit(self) -> NDArray[np.intp]:
        """int[COLUMNS, BANDS]: which code bit each tile carries; all bits have equally many tiles, give or take one."""
        order = np.argsort(self._numbers("bits", COLUMNS * BANDS) + 2**32 * self._is_pilot.ravel(), kind="stable")
        bits = np.empty(COLUMNS * BANDS, dtype=np.intp)
        bits[order] = np.arange(COLUMNS * BANDS) % CODE_BITS
        return bits.reshape(COLUMNS, BANDS)

    @cached_property
    def message_bit(self) -> NDArray[np.intp]:
        """int[GROUPS, message_bits]: which code bit each bit of a group's message carries."""
        order = np.argsort(self._numbers("messages", CODE_BITS), kind="stable")
        return np.resize(order, (GROUPS, self.message_bits))

    @cached_property
    def message_flip(self) -> NDArray[np.uint8]:
        """uint8[GROUPS, message_bits]: 1 where the code bit is sent upside down; a stranger reads noise."""
        return (self._numbers("flips", GROUPS * self.message_bits) % 2).astype(np.uint8).reshape(GROUPS, -1)

    def start(self, identity: int) -> int:
        """The column that a sound begins with: another one for each identity, or many sounds would show the pattern."""
        return int(self._numbers(f"start {identity}", 1)[0]) % COLUMNS

    def pattern(self, bits: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32[COLUMNS, BANDS] of -1 and 1 for uint8[CODE_BITS]."""
        return np.asarray(self.pilot + self.payload * (2.0 * bits[self.bit] - 1), dtype=np.float32)

    def messages(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8[GROUPS, message_bits]: what the learned mark says in each group, for uint8[CODE_BITS]."""
        return np.asarray(bits[self.message_bit] ^ self.message_flip, dtype=np.uint8)

    @cached_property
    def _signs(self) -> NDArray[np.float32]:
        return 1.0 - 2.0 * (self._numbers("signs", COLUMNS * BANDS) % 2).reshape(COLUMNS, BANDS).astype(np.float32)

    @cached_property
    def _is_pilot(self) -> NDArray[np.bool_]:
        return np.asarray(self._numbers("pilot", COLUMNS * BANDS).reshape(COLUMNS, BANDS) % 2 == 0)

    def _numbers(self, purpose: str, count: int) -> NDArray[np.intp]:
        """`count` uniform 32-bit numbers, the same on every machine and in every release."""
        stream = hashlib.shake_256(f"vivavoce layout 1 {purpose}\0".encode() + self.secret).digest(4 * count)
        return np.frombuffer(stream, dtype="<u4").astype(np.intp)

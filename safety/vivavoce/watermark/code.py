"""The keyed code: which 512 bits an identity is, and which registered identity a reading belongs to.

Both marks of a sound send the bits of one codeword over and over. What a fragment gives back is a soft value for each
bit; the registry is asked which of its identities agrees best with them (maximum likelihood over what exists, so that
no bit is wasted on telling apart what was never made).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

IDENTITY_BITS = 48
CODE_BITS = 512
FALSE_ATTRIBUTION = 1e-6  # probability of naming a wrong output that may be borne
CANDIDATES = 5  # how many of the likeliest identities are told
AT_ONCE = 10_000  # identities whose codewords are unpacked at once: 20 MB

Identities = NDArray[np.uint64]


@dataclass(frozen=True)
class Reading:
    """Soft code bits: float32[512]; above 0 for a one, the surer the larger, 0 where nothing was heard."""

    values: NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """An identity, and the bound of the probability that it, being wrong, would agree so well."""

    identity: int
    false_attribution: float


@dataclass(frozen=True)
class Resolution:
    """Whose mark it is.

    Attributes:
        identity: Set only where exactly one identity is within `FALSE_ATTRIBUTION`.
        false_attribution: Bound for the likeliest identity, over all that were asked; 1 where there was none.
        candidates: The likeliest first; bounds over all that were asked, too.
        searched: How many identities were asked.
    """

    identity: int | None
    false_attribution: float
    candidates: tuple[Candidate, ...]
    searched: int


class Code:
    """The codewords of one operator.

    A codeword is the keyed BLAKE2b digest (RFC 7693) of the identity: whoever knows many identities and their
    codewords knows nothing of another one's, and without the secret any two are independent and uniform, which is all
    that the bound in `doubt` needs.
    """

    def __init__(self, secret: bytes) -> None:
        key = hashlib.sha256(b"vivavoce code 1\0" + secret).digest()
        self._hash = hashlib.blake2b(key=key, digest_size=CODE_BITS // 8)

    def bits(self, identities: Identities | int) -> NDArray[np.uint8]:
        """uint8[..., 512] of 0 and 1 for uint64[...] identities."""
        numbers = np.asarray(identities, dtype="<u8")
        data = numbers.tobytes()
        words = b"".join(self._word(data[at : at + 8]) for at in range(0, len(data), 8))
        bits = np.unpackbits(np.frombuffer(words, dtype=np.uint8))
        return bits.reshape(*numbers.shape, CODE_BITS)

    def _word(self, identity: bytes) -> bytes:
        keyed = self._hash.copy()
        keyed.update(identity)
        return keyed.digest()

    def agreement(self, reading: Reading, identities: Identities | int) -> NDArray[np.float64]:
        """float64[...]: how many standard deviations of a wrong identity's score each identity's score is."""
        values = reading.values.astype(np.float32)
        norm = float(np.sqrt(np.sum(values.astype(np.float64) ** 2)))
        if norm == 0.0:
            return np.zeros(np.shape(identities), dtype=np.float64)
        scores = self.bits(identities).astype(np.float32) @ (2 * values) - values.sum()
        return np.asarray(scores, dtype=np.float64) / norm

    def doubt(self, reading: Reading, identity: int) -> float:
        """Bound the probability that a reading which is not this identity's agrees with it so well.

        The bits of a wrong codeword are independent fair coins, whatever the sound and whatever was done to it, so the
        bound needs no assumption on the noise.
        """
        return bound(float(self.agreement(reading, identity)))

    def resolve(self, reading: Reading, identities: Iterable[Identities]) -> Resolution:
        """Find the identity among those registered, given in batches of uint64[n]; none of them twice."""
        best: list[tuple[float, int]] = []
        searched = 0
        for batch in identities:
            searched += len(batch)
            for at in range(0, len(batch), AT_ONCE):
                some = batch[at : at + AT_ONCE]
                agreement = self.agreement(reading, some).tolist()
                best = heapq.nlargest(CANDIDATES, [*best, *zip(agreement, some.tolist(), strict=True)])
        found = tuple(Candidate(identity, min(1.0, searched * bound(z))) for z, identity in best)
        sure = [one for one in found if one.false_attribution <= FALSE_ATTRIBUTION]
        least = found[0].false_attribution if found else 1.0
        return Resolution(sure[0].identity if len(sure) == 1 else None, least, found, searched)


def bound(z: float) -> float:
    """Bound the probability that a weighted sum of random signs reaches z times its standard deviation.

    At most 1 / (4 Q(sqrt 2)) times the normal tail Q(z), whatever the weights (Bentkus and Dzindzalieta 2015).
    """
    return min(1.0, erfc(z / sqrt(2)) / (4 * erfc(1.0)))

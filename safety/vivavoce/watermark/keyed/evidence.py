"""What a track says: its soft code bits, and where it begins and ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vivavoce.watermark.code import CODE_BITS
from vivavoce.watermark.keyed.layout import Layout
from vivavoce.watermark.keyed.spectrum import COLUMN_FRAMES
from vivavoce.watermark.keyed.tracks import FRAME_SECONDS, Columns

SWITCH_COST = 8.0  # nats of evidence that a border needs
ROUNDS = 3
SECOND = 25  # columns
AT_ONCE = 5_000  # columns (200 s) that are unpacked at once: an hour of them would take 25 MB in each array
WEAKEST = 0.1  # share of what stands out that agrees with the pattern, where it is marked: no less is believed


def soft_bits(columns: Columns, layout: Layout) -> NDArray[np.float32]:
    """float32[CODE_BITS]: the sum of what each bit's tiles say."""
    values = np.zeros(CODE_BITS)
    for part in columns.split(AT_ONCE):
        said = part.tiles.astype(np.float32) * layout.payload[part.place]
        values += np.bincount(layout.bit[part.place].ravel(), said.ravel(), CODE_BITS)
    return values.astype(np.float32)


def marked(columns: Columns, layout: Layout, bits: NDArray[np.uint8] | None) -> NDArray[np.bool_]:
    """bool[columns]: the likeliest sequence of marked and unmarked columns.

    How strongly a marked column agrees is not known beforehand. It is taken from the second that agrees best, then
    from what came out as marked, and once more.

    Args:
        columns: Of one track.
        layout: The pattern.
        bits: uint8[CODE_BITS] where it is known whose mark it is; the borders are sharper then.
    """
    values = soft_bits(columns, layout)
    parts = []
    for part in columns.split(AT_ONCE):
        signs = _signs(part, layout, values) if bits is None else layout.pattern(bits)[part.place]
        known = part.tiles.astype(np.float64) * signs
        parts.append((known.sum(axis=1), np.abs(known).sum(axis=1), (known**2).sum(axis=1) + 1e-9))
    agreement, most, power = (np.concatenate(figures) for figures in zip(*parts, strict=True))
    window = np.ones(min(SECOND, len(agreement)))
    share = float((np.convolve(agreement, window, "valid") / (np.convolve(most, window, "valid") + 1e-9)).max())
    inside = np.zeros(len(agreement), dtype=bool)
    for _ in range(ROUNDS):
        mean = max(WEAKEST, share) * most
        inside = _likeliest((agreement * mean - mean**2 / 2) / power)
        share = float(agreement[inside].sum() / (most[inside].sum() + 1e-9))
    return inside


def stretches(columns: Columns, inside: NDArray[np.bool_], tempo: float) -> list[tuple[float, float]]:
    """Seconds from and to between which the columns of a track are `inside`; `tempo` times faster than it was made."""
    ends = np.concatenate([[False], inside, [False]])
    borders = np.flatnonzero(ends[1:] != ends[:-1]).reshape(-1, 2).tolist()
    width = COLUMN_FRAMES * FRAME_SECONDS / tempo
    return [(float(columns.seconds[first]), float(columns.seconds[last - 1]) + width) for first, last in borders]


def _signs(columns: Columns, layout: Layout, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64[columns, BANDS] in [-1, 1]: the sign that each tile should have, as far as the track itself tells.

    A tile of the payload counts by how surely the track's other tiles of the same bit tell its sign (`values` is what
    all of them say); by itself it would always agree.
    """
    payload = layout.payload[columns.place]
    others = values[layout.bit[columns.place]] - columns.tiles.astype(np.float64) * payload
    return np.asarray(layout.pilot[columns.place] + payload * np.tanh(others / (np.sqrt(np.mean(values**2)) + 1e-9)))


def _likeliest(gain: NDArray[np.float64]) -> NDArray[np.bool_]:
    """bool[columns]: marked or not (Viterbi), given how much likelier each column is if it is marked (natural log)."""
    marked, unmarked = 0.0, 0.0
    before = np.zeros((len(gain), 2), dtype=np.int8)  # the likelier state before, for marked (0) and unmarked (1)
    for place, step in enumerate(gain.tolist()):
        before[place] = (unmarked - SWITCH_COST > marked, marked - SWITCH_COST <= unmarked)
        marked, unmarked = max(marked, unmarked - SWITCH_COST) + step, max(unmarked, marked - SWITCH_COST)
    inside = np.zeros(len(gain), dtype=bool)
    state = 0 if marked > unmarked else 1
    for place in range(len(gain) - 1, -1, -1):
        inside[place] = state == 0
        state = int(before[place][state])
    return inside


def joined(keyed: NDArray[np.float32], learned: NDArray[np.float32]) -> NDArray[np.float32]:
    """What both marks say of the code bits, each by as much as the sound has left of it.

    The learned mark's weight is how well it agrees with the keyed one where both speak: where an edit has destroyed
    it, it agrees with nothing, and counts for nothing.
    """
    both = (keyed != 0) & (learned != 0)
    if not both.any():
        return keyed
    one, other = keyed[both].astype(np.float64), learned[both].astype(np.float64)
    alike = float(one @ other) / float(other @ other)
    return (keyed + max(0.0, alike) * learned).astype(np.float32)

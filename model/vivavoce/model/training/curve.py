"""The curve of a run, drawn from its log as an SVG file that any browser shows: every loss over the steps."""

from __future__ import annotations

import json
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 800, 360, 50  # pixels
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
NOT_LOSSES = {"time", "step", "rate"}


def draw(log: Path, picture: Path) -> None:
    """Draw each loss between its own least and greatest value, which stand beside its name.

    Args:
        log: `log.jsonl` of a run; a last line that was cut off is left out.
        picture: file to write.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    last = max((row["step"] for row in rows), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">steps: 0 to {last:,}</text>',
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" stroke="#999" fill="none"/>',
    ]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in NOT_LOSSES))
    for place, name in enumerate(names):
        values = [(row["step"], row[name]) for row in rows if name in row]
        low, high = min(value for _, value in values), max(value for _, value in values)
        points = " ".join(
            f"{MARGIN + step / last * (WIDTH - 2 * MARGIN):.1f},"
            f"{HEIGHT - MARGIN - (value - low) / max(high - low, 1e-9) * (HEIGHT - 2 * MARGIN):.1f}"
            for step, value in values
        )
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, y = 10 + 155 * (place % 5), 14 + 14 * (place // 5)
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{name} {low:.3g} to {high:.3g}</text>')
    picture.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")

"""The curve of a run, drawn from its log as an SVG file that any browser shows."""

from __future__ import annotations

import json
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 800, 360, 50  # pixels
# What is drawn, in which colour, and the values at the bottom and at the top of the picture.
LINES = {
    "bits": ("#1f77b4", 0.5, 1.0),
    "presence": ("#2ca02c", 0.5, 1.0),
    "snr_db": ("#d62728", -10.0, 30.0),
}


def draw(log: Path, picture: Path) -> None:
    """Draw bits and presence told right (0.5 to 1) and the level in dB (-10 to 30) over the steps.

    Args:
        log: `log.jsonl` of a run; a last line that was cut off is left out.
        picture: File to write.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    last = max((row["step"] for row in rows), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">steps: 0 to {last:,}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f'<path d="M{MARGIN} {y}H{WIDTH - MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y}" text-anchor="end">{0.5 + share / 2:.2f}</text>')
        parts.append(f'<text x="{WIDTH - MARGIN + 6}" y="{y}">{40 * share - 10:+.0f} dB</text>')
    for place, (name, (colour, low, high)) in enumerate(LINES.items()):
        points = " ".join(
            f"{MARGIN + row['step'] / last * (WIDTH - 2 * MARGIN):.1f},{_y((row[name] - low) / (high - low)):.1f}"
            for row in rows
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{MARGIN + 90 * place}" y="20" fill="{colour}">{name}</text>')
    picture.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _y(share: float) -> float:
    return HEIGHT - MARGIN - min(1.0, max(0.0, share)) * (HEIGHT - 2 * MARGIN)

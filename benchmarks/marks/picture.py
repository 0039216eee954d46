"""The table of found marks as a picture: one coloured field for each edit, length and watermark (SVG)."""

from __future__ import annotations

from html import escape

from benchmarks.marks.results import LENGTHS, Results

LABEL, CELL, HEIGHT, TOP, GAP = 190, 56, 22, 62, 16  # pixels
WORST, MIDDLE, BEST = (178, 60, 40), (240, 236, 220), (44, 105, 165)  # red to blue: told apart by the colour-blind too


def picture(results: Results) -> str:
    """An SVG of the share of marks that were found."""
    width = LABEL + len(results.columns) * (len(LENGTHS) * CELL + GAP)
    height = TOP + len(results.measured) * HEIGHT + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" text-anchor="middle">',
        "<title>Share of marks found after each edit, at a false-positive rate of 1 in 1,000</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, mark in enumerate(results.columns):
        left = LABEL + number * (len(LENGTHS) * CELL + GAP)
        parts.append(_text(left + len(LENGTHS) * CELL / 2, 24, mark.name, "#222", 'font-weight="bold"'))
        for column, seconds in enumerate(LENGTHS):
            x = left + column * CELL
            parts.append(_text(x + CELL / 2, 48, f"{seconds} s", "#222"))
            for row, edit in enumerate(results.measured):
                found = results.found(mark, edit, seconds)
                if found.count:
                    parts.append(_field(x, TOP + row * HEIGHT, found.value))
    for row, edit in enumerate(results.measured):
        y = TOP + row * HEIGHT + HEIGHT * 0.68
        parts.append(_text(LABEL - 10, y, edit, "#222", 'text-anchor="end"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _field(x: float, y: float, value: float) -> str:
    ink = "#fff" if abs(value - 0.5) > 0.3 else "#222"
    box = f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{HEIGHT - 2}" fill="{_colour(value)}"/>'
    return box + _text(x + CELL / 2, y + HEIGHT * 0.68, f"{value:.2f}", ink)


def _text(x: float, y: float, words: str, ink: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{ink}" {more}>{escape(words)}</text>'


def _colour(value: float) -> str:
    low, high, share = (WORST, MIDDLE, value * 2) if value < 0.5 else (MIDDLE, BEST, value * 2 - 1)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high, strict=True))

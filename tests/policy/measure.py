"""How well the text rules do on the labelled sentences: `python -m tests.policy.measure [dev|held_out]`.

Rules may be written with an eye on `dev`; `held_out` is only for reporting. Both were written by the authors of the
rules, after the first rules, and the line between them was drawn anew once, after 16 mistakes of the first `dev` were
seen and before any rule was changed: a few of these now stand in `held_out`. So the figures are upper bounds.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from vivavoce.policy.text_judging import Category, Outcome, judge

DATA = Path(__file__).parent / "data"
NONE = "none"


@dataclass(frozen=True)
class Line:
    """A sentence, what it is, and what the rules take it for."""

    language: str
    category: str
    text: str
    found: frozenset[str]
    refused: bool


@dataclass(frozen=True)
class Score:
    """Counts: of what should be found, of what was found, of both."""

    wanted: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.wanted if self.wanted else 1.0

    def __str__(self) -> str:
        precision = f"{self.precision:5.2f} ({self.right}/{self.found})"
        return f"precision {precision:16}recall {self.recall:5.2f} ({self.right}/{self.wanted})"


def judged(part: str) -> list[Line]:
    """Judge all sentences of `dev` or `held_out` under the default profile."""
    lines = []
    for row in map(json.loads, (DATA / f"{part}.jsonl").read_text().splitlines()):
        said = judge(row["text"])
        found = frozenset(str(hit.category) for hit in said.hits)
        lines.append(Line(row["language"], row["category"], row["text"], found, said.outcome is not Outcome.ALLOW))
    return lines


def by_category(lines: list[Line]) -> dict[str, Score]:
    """Score each category: a sentence counts where that very category was found."""
    scores = {}
    for category in Category:
        wanted = [line for line in lines if line.category == category]
        found = [line for line in lines if category in line.found]
        scores[str(category)] = Score(len(wanted), len(found), sum(category in line.found for line in wanted))
    return scores


def refused(lines: list[Line]) -> Score:
    """Score the decision: refused or sent to review, for whatever reason, against let through."""
    bad = [line for line in lines if line.category != NONE]
    return Score(len(bad), sum(line.refused for line in lines), sum(line.refused for line in bad))


def main(part: str) -> None:
    out = Console(soft_wrap=True, highlight=False, markup=False)
    lines = judged(part)
    kinds = Counter(line.category == NONE for line in lines)
    out.print(f"{part}: {len(lines)} sentences, {kinds[False]} to be refused, {kinds[True]} to pass")
    for name, score in by_category(lines).items():
        out.print(f"  {name:16}{score}")
    for language in sorted({line.language for line in lines}):
        out.print(f"  {language:16}{refused([line for line in lines if line.language == language])}")
    out.print(f"  {'all':16}{refused(lines)}")


if __name__ == "__main__":
    for named in sys.argv[1:] or ("dev", "held_out"):
        main(named)

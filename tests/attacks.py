"""`python -m tests.attacks`: run the tests of every attack in docs/threat-model.md, and print each with its outcome."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/threat-model.md"
_ROW = re.compile(r"^\| (?P<attack>.+?) \| (?P<what>.+?) \| (?P<tests>`.+`) \|$")


@dataclass(frozen=True)
class Attack:
    """A row of the threat model: what is tried, what happens, and the tests that try it."""

    name: str
    what: str
    tests: tuple[str, ...]


class Outcomes:
    """What became of each test, by its file and its name without parameters."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        if report.when == "call" or not report.passed:
            self.found[report.nodeid.partition("[")[0].removeprefix("tests/")].add(report.outcome)

    def of(self, test: str) -> set[str]:
        """Outcomes of a test, or of all tests of a file."""
        return set().union(*(ends for name, ends in self.found.items() if name == test or name.startswith(f"{test}::")))


def attacks(text: str) -> list[Attack]:
    """Read the rows of the table."""
    rows = (_ROW.match(line) for line in text.splitlines())
    return [Attack(row["attack"], row["what"], _tests(row["tests"])) for row in rows if row]


def _tests(cell: str) -> tuple[str, ...]:
    names: list[str] = []
    for name in re.findall(r"`([^`]+)`", cell):
        names.append(names[-1].partition("::")[0] + name if name.startswith("::") else name)
    return tuple(name.partition(" -k ")[0] for name in names)


def main() -> int:
    """Run and print; returns 1 where an attack was not fended off, or was not tried."""
    rows, outcomes = attacks(DOCUMENT.read_text(encoding="utf-8")), Outcomes()
    wanted = sorted({f"{ROOT}/tests/{test}" for row in rows for test in row.tests})
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *wanted], plugins=[outcomes])
    table, wrong = Table("attack", "what happens", "tests", "outcome", show_lines=True), 0
    for row in rows:
        ends = set().union(*(outcomes.of(test) or {"not run"} for test in row.tests))
        wrong += ends != {"passed"}
        said = "[green]fended off[/]" if ends == {"passed"} else f"[red]{', '.join(sorted(ends))}[/]"
        table.add_row(row.name, row.what, str(len(row.tests)), said)
    Console(width=160).print(table)
    Console().print(f"{len(rows) - wrong} of {len(rows)} attacks fended off")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

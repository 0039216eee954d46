"""docs/errors.md and the code name the same errors: no code that nobody can look up, none that never comes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

from vivavoce.api import problems
from vivavoce.consent.service import _HELD
from vivavoce.ledger.tables import ConsentStatus
from vivavoce.policy.text import _CODES
from vivavoce.sound import SoundCode
from vivavoce.workers.streaming import INTERRUPTED

ROOT = Path(__file__).parents[2]
REFUSALS = [
    "ConsentRefused",
    "ConsentInvalid",
    "PolicyRefused",
    "ReleaseRefused",
    "GrantRefused",
    "LinkRefused",
    "SoundError",
]
PLACES = {"Problem": 1, "Ending": 1} | dict.fromkeys(REFUSALS, 0)
"""Who carries a code, and at which place of the call."""


@cache
def calls() -> list[tuple[str, list[ast.expr]]]:
    """Every call in the code that may raise one of these: its name and arguments."""
    paths = [path for area in ("platform", "safety", "workers") for path in (ROOT / area).rglob("*.py")]
    trees = [ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in paths]
    found = [node for tree in trees for node in tree if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func).rpartition(".")[2], node.args) for node in found]


def raised(kind: str, place: int) -> Iterator[ast.expr]:
    """The expressions that give the codes of one kind of error."""
    return (given[place] for name, given in calls() if name == kind and len(given) > place)


def literals(kind: str, place: int) -> set[str]:
    return {str(one.value) for one in raised(kind, place) if isinstance(one, ast.Constant)}


MARKS = {f"mark_{code}" for code in literals("MarkError", 0)}
WORDS = ("name", "reason", "transcript")
EXPANDED = {
    "f'consent_{consent.status}'": {f"consent_{status}" for status in ConsentStatus if status != "verified"},
    "f'consent_{status}'": {f"consent_{status}" for status in ConsentStatus if status != "verified"},
    "f'mark_{error.code}'": MARKS,
    "f'voice_{standing}'": {f"voice_{held}" for held in _HELD},
    "f'{what}_control_characters'": {f"{word}_control_characters" for word in WORDS},
    "f'{what}_too_long'": {f"{word}_too_long" for word in WORDS},
    "_CODES[outcome]": set(_CODES.values()),
    "*INTERRUPTED": {INTERRUPTED[0]},
    "job.error_code or job.status": {"failed", "refused", "cancelled"},
    "output.withheld_reason or 'withheld'": {"withheld", "retention_over"},
    "whole.withheld_reason or 'withheld'": {"withheld", "retention_over"},
}
"""What the expressions that are no literals can give."""
PASSED_ON = {"code", "error.code", "problem.code", "handed.code", "end.code", "refusal.code"}
"""Codes of another error, which is counted where it is raised."""


def in_code() -> set[str]:
    found = (
        set(get_args(SoundCode))
        | {code for code, _ in problems._UNAVAILABLE.values()}
        | {"method_not_allowed", "not_found"}
    )
    for kind, place in PLACES.items():
        for one in raised(kind, place):
            written = ast.unparse(one)
            if isinstance(one, ast.Constant):
                found.add(str(one.value))
            elif written not in PASSED_ON:
                assert written in EXPANDED, f"{kind}({written}): say in EXPANDED what this can be"
                found |= EXPANDED[written]
    return found


def statuses() -> Iterator[tuple[str, int]]:
    """Codes with a status that each is answered with, as far as the code fixes it."""
    for name, given in calls():
        if name == "Problem" and all(isinstance(one, ast.Constant) for one in given[:2]) and len(given) > 1:
            yield ast.literal_eval(given[1]), ast.literal_eval(given[0])
    yield from ((code, 503) for code, _ in problems._UNAVAILABLE.values())
    for codes, status in ((problems._NOT_FOUND, 404), (problems._CONFLICT, 409), (problems._UNFIT, 422)):
        yield from ((code, status) for code in codes)
    of_its_own = problems._NOT_FOUND | problems._CONFLICT | problems._UNFIT
    for kind, status in (
        ("ConsentRefused", 403),
        ("ReleaseRefused", 403),
        ("ConsentInvalid", 422),
        ("PolicyRefused", 422),
    ):
        yield from ((code, status) for code in literals(kind, 0) - of_its_own)


def rows() -> dict[str, str]:
    """The page's codes, each with its column of statuses."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    cells = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    listed = [(code, cell[2]) for cell in cells for code in re.findall(r"`([a-z_]+)`", cell[1])]
    explained = [(code, cell[2]) for cell in cells for code in re.findall(r"`(link_[a-z]+)`", cell[3])]
    assert len(listed) == len(dict(listed)), "listed twice"
    return dict(listed + explained)


def test_the_catalogue_is_complete_and_true() -> None:
    named = set(rows())
    assert in_code() - named == set(), "not in docs/errors.md"
    assert named - in_code() == set(), "nothing raises these"


def test_the_catalogue_names_the_status_of_each() -> None:
    told = rows()
    assert {(code, status) for code, status in statuses() if str(status) not in told[code]} == set()

"""The command line finds what is installed, loads only what is asked for, and names the extra that is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABSENT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {modules!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Block())
sys.argv = ["vivavoce", *sys.argv[1:]]
from vivavoce.cli import main
main()
"""


def run(*words: str, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ABSENT.format(modules=absent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"TERM": "dumb", "COLUMNS": "200"})


def test_the_overview_lists_all_commands_without_torch() -> None:
    done = run(absent=("torch", "audioseal", "fastapi", "uvicorn"))
    assert done.returncode in (0, 2), done.stderr
    for command in ("demo", "serve", "worker", "detect", "audit", "keys"):
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    ("words", "absent", "extra"),
    [
        (("worker",), "torch", "worker"),
        (("detect", __file__), "torch", "worker"),
        (("serve",), "uvicorn", "api"),
    ],
)
def test_a_missing_extra_is_named(words: tuple[str, ...], absent: str, extra: str) -> None:
    done = run(*words, absent=(absent,))
    assert done.returncode == 1
    assert f"pip install 'vivavoce[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_no_extra_brings_is_a_bug_and_says_so() -> None:
    done = run("keys", "list", absent=("secrets",))
    assert done.returncode != 0 and "pip install" not in done.stderr


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "vivavoce.cli", "keys", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "revoke" in done.stdout

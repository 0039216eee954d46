"""`vivavoce`: finds the commands of whatever is installed here, and says which extra a missing one needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, requires
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

GROUP = "vivavoce.commands"
BAD_SETTINGS = 2
"""Exit status where settings are wrong, as where options are: starting again would not help."""

# Imported names that differ from their distribution's.
_DISTRIBUTIONS = {
    "multipart": "python-multipart",
    "starlette": "fastapi",
    "omegaconf": "audioseal",
    "opentelemetry": "opentelemetry-sdk",
}
_err = Console(stderr=True, soft_wrap=True)


def main() -> None:
    """Run the command line."""
    try:
        _application(sys.argv[1:])()
    except ModuleNotFoundError as error:
        _err.print(f"[bold red]Not installed here:[/] {missing(error)}", highlight=False)
        raise SystemExit(1) from error
    except ValidationError as error:
        if not error.title.endswith("Settings"):
            raise
        for wrong in error.errors():
            name = "_".join(["VIVAVOCE", *(str(part) for part in wrong["loc"])]).upper()
            _err.print(f"[bold red]Wrong setting:[/] {escape(name)}: {escape(wrong['msg'])}", highlight=False)
        raise SystemExit(BAD_SETTINGS) from error


def missing(error: ModuleNotFoundError) -> str:
    """Say what to install for a module that is not there; raises the error again if no extra of ours brings it."""
    module = (error.name or "").partition(".")[0]
    distribution = _DISTRIBUTIONS.get(module, module).lower()
    for requirement in requires("vivavoce") or []:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name and extra and name.group().lower() == distribution:
            return f"this needs {distribution}: pip install 'vivavoce\\[{extra.group(1)}]'"
    raise error


def _application(words: list[str]) -> typer.Typer:
    app = typer.Typer(
        name="vivavoce",
        help="A voice platform: consented, marked, logged, provable.",
        no_args_is_help=True,
        # Local variables hold keys and texts: they do not belong on a screen.
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_root)
    found = {entry.name: entry for entry in sorted(entry_points(group=GROUP))}
    # Only the command that is asked for is imported; for the overview, all are.
    named = [name for name in found if name.partition(".")[0] in words[:1]]
    groups: dict[str, typer.Typer] = {}
    for path in named or found:
        group, _, name = path.rpartition(".")
        if group and group not in groups:
            # Several areas share such a group (`train.watermark`, `train.voice`), so that none of them can own it.
            groups[group] = typer.Typer(no_args_is_help=True)
            groups[group].callback(help=", ".join(p.rpartition(".")[2] for p in found if p.startswith(f"{group}.")))(
                _root
            )
            app.add_typer(groups[group], name=group)
        _add(groups.get(group, app), name, found[path])
    return app


def _root() -> None:
    """Hold the commands together, even when there is one."""


def _add(app: typer.Typer, name: str, entry: EntryPoint) -> None:
    try:
        command = entry.load()
    except ModuleNotFoundError as error:
        app.command(name, help=f"Not installed here: {missing(error)}")(_absent(error))
        return
    if not isinstance(command, typer.Typer):
        app.command(name)(command)
    elif len(command.registered_commands) == 1 and not command.registered_groups:
        # One command is that command, not a group with itself in it.
        app.command(name)(command.registered_commands[0].callback or _root)
    else:
        app.add_typer(command, name=name)


def _absent(error: ModuleNotFoundError) -> Callable[[], Any]:
    def absent() -> None:
        raise error

    return absent

"""`vivavoce keys status`, `rotate`, `rewrap`, `retire`: the installation's own keys."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vivavoce.audit.installation import OPERATOR
from vivavoce.cli.ledger import ledger
from vivavoce.ledger import rotation as files
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings
from vivavoce.release import rotation

_out = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help=f"One of {', '.join(files.ROTATED)}.")]


def status() -> None:
    """Say which keys are in use, prepared and old, by ids that tell nothing about them."""
    with ledger() as (_, _, keyring):
        for name, file in sorted(keyring.files.items()):
            words = [f"{files.key_id(name, file.current)} in use"]
            words += [] if file.next is None else [f"{files.key_id(name, file.next)} comes next"]
            words += [f"{files.key_id(name, key)} old" for key in file.old]
            words += [f"{len(file.public)} known by their public halves"] if file.public else []
            _out.print(f"{name}: {', '.join(words)}", markup=False)


def rotate(
    name: Name,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only make the next key, for all hosts to know.")] = False,
) -> None:
    """Use a new key from now on; what the old one made is still opened and verified."""
    folder = CoreSettings().keys_folder
    with ledger() as (database, log, _):
        if prepare:
            made = files.prepare(folder, name).next
            assert made is not None  # noqa: S101 - just made
            _out.print(f"{name}: {files.key_id(name, made)} comes next.", markup=False)
            _out.print(f"Bring {folder} to all hosts and restart their processes, then rotate.", markup=False)
            return
        turned = rotation.rotate(database, log, folder, name, OPERATOR)
    _out.print(f"{name}: {files.key_id(name, turned.files[name].current)} is in use.", markup=False)
    _out.print(f"Bring {folder} to all hosts and restart their processes.", markup=False)
    if name == "kek":
        _out.print("Then `vivavoce keys rewrap`, and `vivavoce keys retire kek`.", markup=False)


def rewrap() -> None:
    """Seal anew all that is sealed under an old master key. Stopped at any point, it goes on when run again."""
    bar = Progress(SpinnerColumn(), TextColumn("{task.completed:.0f} sealed anew"), TimeElapsedColumn())
    with ledger() as (database, _, keyring), bar:
        task = bar.add_task("", total=None)
        for renewed in rotation.rewrap(database, keyring, ObjectStore(CoreSettings().objects_url)):
            bar.advance(task, renewed)
        _out.print(f"{bar.tasks[task].completed:.0f} values sealed anew.", markup=False)


def retire(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Although something needs them: it is lost then.")] = False,
) -> None:
    """Forget the old keys for ever, once nothing needs them."""
    settings = CoreSettings()
    with ledger() as (database, log, keyring):
        store = ObjectStore(settings.objects_url)
        rotation.retire(database, log, keyring, store, settings.keys_folder, name, OPERATOR, force=force)
    _out.print(f"{name}: its old keys are forgotten. Bring {settings.keys_folder} to all hosts.", markup=False)

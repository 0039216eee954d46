"""`vivavoce backup` and `vivavoce restore`: the embedded default (SQLite, a folder of objects) into a folder and back.

A backup is the database by SQLite's online backup API, and the objects; the keys only where that is asked for, since
who holds both can read everything. PostgreSQL and S3 have their own tools: `docs/production.md`.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import AuditError, LogBroken
from vivavoce.audit.heads import Heads
from vivavoce.audit.installation import OPERATOR, installation
from vivavoce.audit.tags import Tag
from vivavoce.audit.watch import examine
from vivavoce.ledger.errors import LedgerError, ObjectMissing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings

DATABASE, OBJECTS, KEYS = "ledger.sqlite3", "objects", "keys"
_HEADS = "log-heads/"
_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)


class BackupError(LedgerError):
    """A backup or restore that cannot be done as asked."""


def backup(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to make.")],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Take the keys along: whoever gets the folder can then read everything.")
    ] = False,
) -> None:
    """Copy database and objects while the installation runs; the log says that it was done."""
    with _reported():
        settings = CoreSettings()
        take(settings, out, with_keys=with_keys)
    _out.print(f"Backup in {out}.", markup=False)
    if with_keys:
        _out.print("It holds the keys: keep it as you keep them.")
    else:
        _out.print(f"It does not hold the keys in {settings.keys_folder}: without them nothing in it can be read.")
    _out.print("It also holds people who are erased from now on: delete backups when their time is over.")


def restore(
    source: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder made by `vivavoce backup`.")],
    keys: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of the keys, where the backup has none.")
    ] = None,
) -> None:
    """Put a backup into an empty VIVAVOCE_HOME, once its log is verified; nothing is put there otherwise."""
    with _reported():
        settings = CoreSettings()
        size = put_back(settings, source, keys)
    _out.print(f"Restored into {settings.home}; the log's {size:,} leaves are verified.", markup=False)
    _out.print("Consents withdrawn and people erased after the backup are back: do that again before serving.")


def take(settings: CoreSettings, out: Path, *, with_keys: bool) -> None:
    """Make a backup of an installation; raises `BackupError` where it is not of the embedded kind, or `out` exists."""
    database_file, objects = _places(settings)
    if out.exists():
        raise BackupError(f"{out} exists already")
    with installation(settings) as (database, log, _), database.write() as session:
        log.append(session, Entry(Tag.LEDGER_BACKUP, None, OPERATOR, {}, {"keys": with_keys}))
        log.checkpoint(session)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))  # mode 0700
    try:
        store, target = ObjectStore(objects.as_uri()), ObjectStore((draft / OBJECTS).as_uri())
        # Heads first: one that is kept after the database was copied would speak of leaves that the copy lacks.
        # Everything else afterwards: an object is there before the row that names it.
        _copy(store, target, heads=True)
        with closing(sqlite3.connect(database_file)) as source, closing(sqlite3.connect(draft / DATABASE)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it that could be left behind
        _copy(store, target, heads=False)
        if with_keys:
            shutil.copytree(settings.keys_folder, draft / KEYS)
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def put_back(settings: CoreSettings, source: Path, keys: Path | None) -> int:
    """Restore a backup into an empty home; returns the number of verified leaves.

    Raises:
        BackupError: The home is not empty, the backup is not whole, or there are no keys.
        AuditError: Its log does not verify.
    """
    home = settings.home
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise BackupError(f"{home} is not empty")
    if _places(settings) != (home / DATABASE, home / OBJECTS) or settings.keys_folder != home / KEYS:
        raise BackupError("restoring is for the embedded default: set VIVAVOCE_HOME and none of the other places")
    keys = keys or source / KEYS
    if not (source / DATABASE).is_file() or not (source / OBJECTS).is_dir():
        raise BackupError(f"{source} is not a backup")
    if not keys.is_dir():
        raise BackupError("the backup has no keys: name their folder with --keys")
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        shutil.copy2(source / DATABASE, draft / DATABASE)
        shutil.copytree(source / OBJECTS, draft / OBJECTS)
        shutil.copytree(keys, draft / KEYS)
        size = _verified(CoreSettings(home=draft, log_origin=settings.log_origin))
        draft.rename(home)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return size


def _verified(settings: CoreSettings) -> int:
    """Check a log leaf by leaf, and against the heads kept beside it; returns its size."""
    with installation(settings) as (database, log, _), database.read() as session:
        heads = Heads(ObjectStore(settings.objects_url), *log.verifiers)
        health = examine(session, log, heads, datetime.now(UTC), timedelta.max)
        if health.broken:
            raise LogBroken("; ".join(health.broken))
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "log"
            write_bundle(session, log, health.signed, bundle)
            return verify_bundle(bundle, str(log.verifier)).size


def _copy(store: ObjectStore, target: ObjectStore, *, heads: bool) -> None:
    for key in store.list():
        if key.startswith(_HEADS) == heads:
            # An erasure or a sweep may delete what was listed: then it is not to be kept either.
            with suppress(ObjectMissing):
                target.put(key, store.get(key))


def _places(settings: CoreSettings) -> tuple[Path, Path]:
    url, objects = make_url(settings.database_url), urlsplit(settings.objects_url)
    if url.get_backend_name() != "sqlite" or objects.scheme != "file" or url.database is None:
        raise BackupError("this is for SQLite and a local folder of objects; for the rest see docs/production.md")
    return Path(url.database), Path(unquote(objects.path))


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except (LedgerError, AuditError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        _err.print(f"[bold red]Not done:[/] {escape(str(error) or type(error).__name__)}")
        raise typer.Exit(1) from error

"""The log as static files: the standard's layout, brought up to date piece by piece, and any bent file is named."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.audit.logs import fill, unguard
from tests.audit.test_merkle import mth
from typer.testing import CliRunner

from vivavoce.audit.commands import app
from vivavoce.audit.errors import BundleBroken, HeadConflict, LogBroken
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.tiles import tile_path, verify_tiles, write_tiles
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf

SIZE = 600


def publish(database: Database, log: Log, folder: Path) -> Checkpoint:
    with database.write() as session:
        note = log.checkpoint(session)
    with database.read() as session:
        write_tiles(session, log, note, folder)
    return Checkpoint.open(note, log.verifier)


@pytest.fixture(scope="module")
def whole(keyring: KeyRing, tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Path:
    """A folder of 600 leaves beside its database."""
    home = tmp_path_factory.mktemp("tiles")
    shutil.copy(_sqlite_template, home / "ledger.sqlite3")
    database, log = Database(f"sqlite:///{home / 'ledger.sqlite3'}"), Log(keyring, "test.example/log")
    fill(database, log, SIZE)
    publish(database, log, home / "log")
    database.close()
    return home / "log"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "log")
    return tmp_path / "log"


def broken(folder: Path, key: str | None = None) -> str:
    with pytest.raises(BundleBroken) as caught:
        verify_tiles(folder, key)
    return caught.value.place


def test_the_standards_layout() -> None:
    assert tile_path(Path("p"), "0", 1234067, 256) == Path("p/tile/0/x001/x234/067")
    assert tile_path(Path("p"), "0", 1000, 256) == Path("p/tile/0/x001/000")
    assert tile_path(Path("p"), "entries", 2, 88) == Path("p/tile/entries/002.p/88")


def test_tiles_hold_the_rfcs_hashes(whole: Path, log: Log) -> None:
    """600 leaves: two full tiles and one of 88 at level 0, one of 2 at level 1 (the RFC's own recursion)."""
    database = Database(f"sqlite:///{whole.parent / 'ledger.sqlite3'}")
    with database.read() as session:
        leaves = list(session.scalars(select(AuditLeaf.data).order_by(AuditLeaf.index)))
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    tiles = {"000", "001", "002.p/88"}
    level_0 = {f"tile/{kind}/{name}" for kind in ("0", "entries") for name in tiles}
    assert files == level_0 | {"tile/1/000.p/2", "checkpoint", "log.key"}
    assert (whole / "tile/1/000.p/2").read_bytes() == mth(leaves[:256]) + mth(leaves[256:512])
    assert (whole / "tile/0/001").read_bytes() == b"".join(mth([leaf]) for leaf in leaves[256:512])
    found = verify_tiles(whole, str(log.verifier))
    assert (found.size, found.root) == (SIZE, mth(leaves))


def test_it_grows_without_writing_full_tiles_again(sqlite_url: str, log: Log, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    publish(database, log, tmp_path)
    assert verify_tiles(tmp_path).size == 0
    for count in (255, 1, 44):
        fill(database, log, count)
        head = publish(database, log, tmp_path)
        assert verify_tiles(tmp_path, str(log.verifier)).root == head.root
    assert not (tmp_path / "tile/0/000.p").exists()
    before = (tmp_path / "tile/0/000").stat().st_mtime_ns
    fill(database, log, 300)
    publish(database, log, tmp_path)
    assert verify_tiles(tmp_path).size == 600
    assert (tmp_path / "tile/0/000").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("file", "at", "place"),
    [
        ("tile/entries/001", 60, "leaf 256"),
        ("tile/entries/002.p/88", 60, "leaf 512"),
        ("tile/0/000", 32 * 7, "leaf 7"),
        ("tile/1/000.p/2", 40, "leaves 256 to 511"),
        ("checkpoint", 20, "checkpoint"),
    ],
)
def test_an_altered_file_is_named(folder: Path, file: str, at: int, place: str) -> None:
    data = bytearray((folder / file).read_bytes())
    data[at] ^= 1
    (folder / file).write_bytes(data)
    assert broken(folder) == place


def test_every_missing_or_cut_file_is_found(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        for spoiled in (data[:-1], data + b"x", b""):
            path.write_bytes(spoiled)
            if path.name != "log.key" or not spoiled:
                broken(folder)
        path.unlink()
        broken(folder)
        path.write_bytes(data)
    assert verify_tiles(folder).size == SIZE


def test_a_forger_who_redoes_tiles_is_caught_by_the_head(folder: Path) -> None:
    """The last entry rewritten with its hash: only the signed root is left to say so."""
    entries = folder / "tile/entries/002.p/88"
    data = entries.read_bytes().replace(b'"job_599"', b'"job_999"')
    entries.write_bytes(data)
    last = data[-int.from_bytes(data[:2], "big") :] if data.count(b"job_999") else b""
    tile = folder / "tile/0/002.p/88"
    tile.write_bytes(tile.read_bytes()[:-32] + hashlib.sha256(b"\x00" + last).digest())
    assert broken(folder) == f"leaves 0 to {SIZE - 1}"


def test_another_key_or_origin_does_not_verify(folder: Path, tmp_path: Path) -> None:
    other = Log(KeyRing.open(tmp_path / "other", create=True), "test.example/log")
    assert broken(folder, str(other.verifier)) == "checkpoint"


def test_a_folder_is_not_led_back_or_onto_a_fork(sqlite_url: str, log: Log, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    fill(database, log, 5)
    publish(database, log, tmp_path / "log")
    database.close()
    shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "old.sqlite3")
    fill(database, log, 5)
    publish(database, log, tmp_path / "log")
    old = Database(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    with pytest.raises(HeadConflict, match="rolled back"):
        publish(old, log, tmp_path / "log")
    fill(old, log, 9)
    with pytest.raises(HeadConflict, match="other leaves"):
        publish(old, log, tmp_path / "log")
    assert verify_tiles(tmp_path / "log").size == 10
    (tmp_path / "log" / "checkpoint").write_text("something else")
    with pytest.raises(HeadConflict, match="not of this log"):
        publish(database, log, tmp_path / "log")


def test_the_head_before_stands_until_the_next_is_whole(sqlite_url: str, log: Log, tmp_path: Path) -> None:
    """A publication that breaks off after it filled a tile leaves a folder that verifies, and is taken up again."""
    database = Database(sqlite_url)
    fill(database, log, 200)
    publish(database, log, tmp_path / "log")
    fill(database, log, 100)
    with database.write() as session:
        note = log.checkpoint(session)
    with database.read() as session, pytest.raises(KeyboardInterrupt):
        write_tiles(session, log, note, tmp_path / "log", interrupt)
    assert (tmp_path / "log/tile/0/000").exists()
    assert verify_tiles(tmp_path / "log", str(log.verifier)).size == 200
    publish(database, log, tmp_path / "log")
    assert verify_tiles(tmp_path / "log", str(log.verifier)).size == 300
    assert not (tmp_path / "log/tile/0/000.p").exists()
    assert not (tmp_path / "log/tile/entries/000.p").exists()


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_a_missing_row_is_not_published(sqlite_url: str, log: Log, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    fill(database, log, 10)
    with database.write() as session:
        note = log.checkpoint(session)
    unguard(database)
    with database.write() as session:
        session.connection().exec_driver_sql('DELETE FROM audit_leaf WHERE "index" = 4')
    with database.read() as session, pytest.raises(LogBroken, match="row 4"):
        write_tiles(session, log, note, tmp_path / "log")
    assert not (tmp_path / "log" / "checkpoint").exists()


def test_the_command_verifies_a_folder(folder: Path) -> None:
    assert "Verified 600 leaves" in CliRunner().invoke(app, ["verify", str(folder)]).output
    (folder / "tile/0/001").unlink()
    found = CliRunner().invoke(app, ["verify", str(folder)])
    assert (found.exit_code, "tile/0/001" in found.output) == (1, True)

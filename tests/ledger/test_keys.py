"""The key ring is whole or absent, made once whoever starts first, and never readable by everybody."""

from __future__ import annotations

import multiprocessing
import stat
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from vivavoce.ledger.errors import KeyRingError
from vivavoce.ledger.keys import KeyRing


def _open_elsewhere(folder: Path, found: Queue[bytes]) -> None:
    ring = KeyRing.open(folder, create=True)
    found.put(ring.kek + ring.pepper + ring.mark_key + ring.log_verifier.public_bytes_raw())


def test_the_same_keys_come_back(tmp_path: Path) -> None:
    made = KeyRing.open(tmp_path / "keys", create=True)
    again = KeyRing.open(tmp_path / "keys")
    assert (made.kek, made.pepper, made.mark_key) == (again.kek, again.pepper, again.mark_key)
    assert made.log_verifier == again.log_verifier
    assert made.grant_verifier == again.grant_verifier
    assert len({made.kek, made.pepper, made.mark_key, made.log_signer.private_bytes_raw()}) == 4
    again.log_verifier.verify(made.log_signer.sign(b"x"), b"x")


def test_processes_that_start_together_share_one_ring(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    found: Queue[bytes] = spawn.Queue()
    processes = [spawn.Process(target=_open_elsewhere, args=(tmp_path / "home" / "keys", found)) for _ in range(3)]
    for process in processes:
        process.start()
    rings = {found.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert len(rings) == 1
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["keys"], "a draft was left behind"


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    KeyRing.open(tmp_path / "keys", create=True)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o604)
    with pytest.raises(KeyRingError, match="open to every user"):
        KeyRing.open(tmp_path / "keys")


def test_absent_keys_are_an_error_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError):
        KeyRing.open(tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


def test_an_empty_mounted_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    assert KeyRing.open(tmp_path / "keys", create=True).kek == KeyRing.open(tmp_path / "keys").kek


@pytest.mark.parametrize("name", ["kek", "pepper", "log_signer", "grant_signer", "mark_key"])
@pytest.mark.parametrize("damage", ["gone", "cut", "text", "empty"])
def test_half_a_ring_is_refused_and_never_completed(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "keys"
    KeyRing.open(folder, create=True)
    path = folder / f"{name}.key"
    contents = {"cut": path.read_bytes()[:20], "text": b"not base64 !\n", "empty": b""}
    path.unlink() if damage == "gone" else path.write_bytes(contents[damage])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(KeyRingError):
        KeyRing.open(folder, create=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_printing_shows_no_secret(tmp_path: Path) -> None:
    assert repr(KeyRing.open(tmp_path / "keys", create=True)) == "KeyRing()"

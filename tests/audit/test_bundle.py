"""A tampered log is found offline, with no database, and the first wrong place is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.audit.logs import unguard

from vivavoce.audit import merkle
from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import BundleBroken
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing

ORIGIN = "test.example/log"
SIGNED = (0, 4, 11)


def fill(database: Database, log: Log, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            log.append(session, Entry(Tag.JOB_OUTCOME, None, "operator", {"job": f"job_{number}"}, {"é": "ü 🎙"}))


def export(database: Database, log: Log, path: Path) -> Path:
    with database.read() as session:
        write_bundle(session, log, log.size(session), path)
    return path


def grow(database: Database, log: Log, signed: tuple[int, ...] = SIGNED) -> None:
    before = 0
    for size in signed:
        fill(database, log, size - before)
        with database.write() as session:
            log.checkpoint(session)
        before = size


@pytest.fixture(scope="session")
def small(keyring: KeyRing, tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Path:
    """A bundle of 5 leaves and 3 checkpoints, to be copied and spoiled."""
    path = tmp_path_factory.mktemp("bundle") / "ledger.sqlite3"
    path.write_bytes(_sqlite_template.read_bytes())
    database, log = Database(f"sqlite:///{path}"), Log(keyring, ORIGIN)
    grow(database, log, (0, 3, 5))
    bundle = export(database, log, path.with_name("log.jsonl"))
    database.close()
    return bundle


def broken(path: Path, public_key: str | None = None) -> BundleBroken:
    with pytest.raises(BundleBroken) as caught:
        verify_bundle(path, public_key)
    return caught.value


def rewritten(path: Path, to: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Copy a bundle with its lines changed, written in the right form."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    change(lines)
    to.write_bytes(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
    return to


def leaf(lines: list[dict[str, Any]], index: int) -> dict[str, Any]:
    return next(line for line in lines if line.get("leaf") == index)


def test_a_sound_log_verifies_anywhere(database: Database, log: Log, tmp_path: Path) -> None:
    grow(database, log)
    reports: list[tuple[int, int]] = []
    path = export(database, log, tmp_path / "log.jsonl")
    found = verify_bundle(path, str(log.verifier), lambda done, total: reports.append((done, total)))
    assert (found.size, found.checkpoints, found.key) == (11, 3, str(log.verifier))
    frontier = merkle.Frontier()
    for line in path.read_bytes().splitlines():
        if "leaf" in (said := json.loads(line)):
            frontier.push(merkle.leaf_hash(said["data"].encode()))
    assert found.root == frontier.root()
    assert reports[-1] == (11, 11)
    assert [file.name for file in tmp_path.glob("*.part")] == []


def test_an_empty_log_verifies(database: Database, log: Log, tmp_path: Path) -> None:
    grow(database, log, (0,))
    assert verify_bundle(export(database, log, tmp_path / "log.jsonl")).size == 0


def test_many_pages_of_leaves_come_out_in_order(
    database: Database, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vivavoce.audit.bundle._ROWS_AT_ONCE", 3)
    grow(database, log, (5, 16, 17))
    assert verify_bundle(export(database, log, tmp_path / "log.jsonl")).size == 17


def test_a_changed_byte_is_found_and_its_line_named(small: Path, tmp_path: Path) -> None:
    sound, path = small.read_bytes(), tmp_path / "spoiled.jsonl"
    lines = sound.splitlines(keepends=True)
    position = 0
    for number, line in enumerate(lines, 1):
        # Every third byte, to save time: over the lines all parts are met.
        for offset in range(number % 3, len(line), 3):
            spoiled = bytearray(sound)
            spoiled[position + offset] ^= 1
            path.write_bytes(spoiled)
            assert names(broken(path), number, json.loads(line)), f"line {number}, byte {offset}: {broken(path)}"
        position += len(line)


def names(error: BundleBroken, number: int, line: dict[str, Any]) -> bool:
    """Whether the error leads to this line of a bundle."""
    if error.place == f"line {number}":
        return True
    if "leaf" in line:
        numbers = [int(found) for found in re.findall(r"\d+", error.place)]
        return error.place.startswith("lea") and numbers[0] <= line["leaf"] <= numbers[-1]
    if "checkpoint" in line:
        return error.place == f"checkpoint of size {line['checkpoint'].splitlines()[1]}"
    # The header: the key, or a number of leaves that then are too many or missing.
    return error.place in ("public key", "leaf 4", "leaf 5")


def test_every_cut_is_found(small: Path, tmp_path: Path) -> None:
    sound, path = small.read_bytes(), tmp_path / "cut.jsonl"
    for size in range(0, len(sound), 11):
        path.write_bytes(sound[:size])
        broken(path)
    lines = sound.splitlines(keepends=True)
    for number, line in enumerate(lines):
        path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        if "checkpoint" in json.loads(line) and line != lines[-1]:
            # The last head proves all leaves; earlier ones only help to say where.
            assert verify_bundle(path).root == verify_bundle(small).root
        else:
            broken(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_no_content_crashes_the_verifier(small: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    lines = [json.loads(line) for line in small.read_bytes().splitlines()]
    line = data.draw(st.sampled_from(lines))
    name = data.draw(st.sampled_from(sorted(line)))
    old, line[name] = line[name], data.draw(JSON)
    if line[name] != old:
        path = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
        path.write_bytes(b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in lines))
        broken(path)


@pytest.mark.parametrize(
    ("name", "place", "reason"),
    [
        ("exchange", "leaf 1", "it says that it is leaf 2"),
        ("move", "leaf 1", "leaf 2 stands in its place"),
        ("twice", "leaf 3", "leaf 2 stands in its place"),
        ("drop and renumber", "leaf 2", "missing: a checkpoint of size 3"),
        ("edit", "leaf 2", "recorded hash"),
        ("edit and hash", "leaves 2 to 3", "level 1"),
        ("edit and hash last", "leaves 3 to 4", "root mismatch"),
        ("announce more", "leaf 5", "missing"),
        ("announce less", "leaf 4", "too many"),
        ("old checkpoint", "checkpoint of size 5", "checkpoint of size 3 stands in its place"),
        ("no head", "checkpoint of size 5", "missing"),
        ("name given twice", "line 5", "not an object as a bundle writes it"),
    ],
)
def test_the_first_wrong_place_is_named(small: Path, tmp_path: Path, name: str, place: str, reason: str) -> None:
    # Lines: 0 header, 1 head of 0, 2-4 leaves 0-2, 5 head of 3, 6-7 leaves 3-4, 8 head of 5.
    def edit(line: dict[str, Any], and_hash: bool) -> None:
        line["data"] = line["data"].replace("job_", "job-")
        if and_hash:
            line["hash"] = merkle.leaf_hash(line["data"].encode()).hex()

    def change(lines: list[dict[str, Any]]) -> None:
        match name:
            case "exchange":
                for part in ("data", "hash"):
                    lines[3][part], lines[4][part] = lines[4][part], lines[3][part]
            case "move":
                lines[3], lines[4] = lines[4], lines[3]
            case "twice":
                lines.insert(6, lines[4])
            case "drop and renumber":
                del lines[4]
                lines[5]["leaf"], lines[6]["leaf"], lines[0]["size"] = 2, 3, 4
            case "edit":
                edit(lines[4], False)
            case "edit and hash":
                del lines[5]
                edit(lines[4], True)
            case "edit and hash last":
                edit(lines[7], True)
            case "announce more":
                lines[0]["size"] = 6
            case "announce less":
                lines[0]["size"] = 4
            case "old checkpoint":
                lines[8] = lines[5]
            case "no head":
                del lines[8]

    path = rewritten(small, tmp_path / "spoiled.jsonl", change)
    if name == "name given twice":
        path.write_bytes(small.read_bytes().replace(b'{"leaf":2,', b'{"leaf":2,"leaf":2,'))
    error = broken(path)
    assert error.place == place
    assert reason in error.reason


def test_a_forger_who_redoes_every_hash_is_caught_by_the_signed_heads(small: Path, tmp_path: Path) -> None:
    """Leaf 1 rewritten with all hashes above it: the head of size 3 says that the forgery lies before it."""

    def change(lines: list[dict[str, Any]]) -> None:
        tree = merkle.Frontier()
        for index in range(5):
            line = leaf(lines, index)
            line["data"] = line["data"].replace("job_1", "job_9")
            hash_ = merkle.leaf_hash(line["data"].encode())
            line["hash"], line["nodes"] = hash_.hex(), [node.hex() for node in tree.push(hash_)]

    error = broken(rewritten(small, tmp_path / "forged.jsonl", change))
    assert (error.place, error.reason) == (
        "leaves 0 to 2",
        "root mismatch: these are not what was signed at size 3",
    )


def test_a_wholly_forged_bundle_is_caught_by_the_operators_key(small: Path, tmp_path: Path, log: Log) -> None:
    """With another key all of it agrees with itself: only a key from elsewhere tells."""
    forger = KeyRing.open(tmp_path / "forger", create=True)
    forged = Log(forger, ORIGIN)

    def change(lines: list[dict[str, Any]]) -> None:
        lines[0]["key"] = str(forged.verifier)
        for line in lines:
            if "checkpoint" in line:
                line["checkpoint"] = Checkpoint.open(line["checkpoint"], log.verifier).sign(forger.log_signer)

    path = rewritten(small, tmp_path / "forged.jsonl", change)
    assert verify_bundle(path).size == 5
    assert broken(path, str(log.verifier)).place == "public key"
    assert broken(path, "not a key").place == "public key"


@pytest.mark.parametrize(
    ("statements", "place"),
    [
        (["UPDATE audit_leaf SET data = {forged} WHERE {index} = 6"], "leaf 6"),
        (["UPDATE audit_leaf SET data = {binary} WHERE {index} = 6"], "leaf 6"),
        (["UPDATE audit_leaf SET hash = (SELECT hash FROM audit_leaf WHERE {index} = 0) WHERE {index} = 6"], "leaf 6"),
        (["DELETE FROM audit_leaf WHERE {index} = 6"], "leaf 6"),
        (["DELETE FROM audit_leaf WHERE {index} = 10"], "leaf 10"),
        (
            [
                "UPDATE audit_leaf SET {index} = 99 WHERE {index} = 6",
                "UPDATE audit_leaf SET {index} = 6 WHERE {index} = 7",
                "UPDATE audit_leaf SET {index} = 7 WHERE {index} = 99",
            ],
            "leaf 6",
        ),
        (["DELETE FROM audit_node WHERE level = 2 AND {index} = 1"], "leaf 7"),
        (
            ["UPDATE audit_node SET hash = (SELECT hash FROM audit_leaf WHERE {index} = 0) WHERE {index} = 3"],
            "leaves 6 to 7",
        ),
        (
            ["UPDATE audit_checkpoint SET note = replace(note, 'test.example', 'evil.example') WHERE size = 4"],
            "checkpoint of size 4",
        ),
    ],
)
def test_rows_edited_behind_the_guards_are_found(
    database: Database, log: Log, tmp_path: Path, statements: list[str], place: str
) -> None:
    grow(database, log)
    size = 11
    sqlite = database.url.startswith("sqlite")
    words = {
        "index": '"index"',
        "forged": "CAST('{}' AS BLOB)" if sqlite else "'{}'::bytea",
        "binary": "x'ff00fe'" if sqlite else r"'\xff00fe'::bytea",
    }
    unguard(database)
    with database.write() as session:
        for statement in statements:
            session.execute(text(re.sub(r"\{(\w+)\}", lambda found: words[found[1]], statement).replace(":b", r"\:b")))
    with database.read() as session:
        write_bundle(session, log, size, tmp_path / "log.jsonl")
    assert broken(tmp_path / "log.jsonl", str(log.verifier)).place == place

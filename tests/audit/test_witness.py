"""A witness cosigns only what continues the last head it cosigned; and its cosignatures cannot be bent or stripped."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.logs import fill, unguard
from tests.audit.test_merkle import mth, subproof
from typer.testing import CliRunner

from vivavoce.audit.cosignatures import Cosigner, CosignerKey
from vivavoce.audit.errors import NoteInvalid, WitnessBroken
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint, Verifier
from vivavoce.audit.publishing import WitnessRefused, submit_head
from vivavoce.audit.witness import Witness, make_witness, write_request
from vivavoce.audit.witness_commands import app, make_server
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore

NOW = 1_795_000_000
ORIGIN = "log.example/one"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LOG = Verifier(ORIGIN, KEY.public_key())
LEAVES = [f"leaf {number}".encode() for number in range(20)]
FORKED = [*LEAVES[:3], b"forged", *LEAVES[4:]]


def note(size: int, leaves: list[bytes] = LEAVES, key: Ed25519PrivateKey = KEY, origin: str = ORIGIN) -> str:
    return Checkpoint(origin, size, mth(leaves[:size])).sign(key)


def request(old: int, new: int, leaves: list[bytes] = LEAVES) -> str:
    """A request by nothing but the RFC's own recursion."""
    path = subproof(old, leaves[:new], True) if 0 < old < new else []
    return write_request(old, path, note(new, leaves))


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    make_witness(tmp_path / "witness", "witness.example/w1")
    found = Witness(tmp_path / "witness", lambda: NOW)
    found.trust(LOG)
    return found


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5, unique=True).map(sorted))
def test_whatever_continues_is_cosigned(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("w") / "witness"
    make_witness(folder, "w.example")
    witness = Witness(folder, lambda: NOW)
    witness.trust(LOG)
    for old, new in zip([0, *sizes], sizes, strict=False):
        answer = witness.add_checkpoint(request(old, new))
        assert answer.status == 200
        assert [key.cosigned(note(new) + answer.body) for key in witness.cosigner.keys] == [NOW, NOW]


def test_a_rolled_back_log_and_a_replayed_head_are_refused(witness: Witness) -> None:
    assert witness.add_checkpoint(request(0, 12)).status == 200
    for old, new in ((0, 5), (5, 5), (5, 7), (0, 12)):
        answer = witness.add_checkpoint(request(old, new))
        assert (answer.status, answer.body, answer.media_type) == (409, "12\n", "text/x.tlog.size")
    assert witness.add_checkpoint(write_request(12, [], note(5))).status == 400
    assert witness.add_checkpoint(request(12, 12)).status == 200, "the same head again is no rollback"


def test_a_forked_log_is_refused(witness: Witness) -> None:
    assert witness.add_checkpoint(request(0, 12)).status == 200
    assert witness.add_checkpoint(request(12, 20, FORKED)).status == 422
    assert witness.add_checkpoint(request(12, 12, FORKED)).status == 409
    honest = subproof(12, LEAVES, True)
    assert witness.add_checkpoint(write_request(12, honest, note(20, FORKED))).status == 422
    assert witness.add_checkpoint(write_request(12, honest[:-1], note(20))).status == 422
    assert witness.head(ORIGIN) == Checkpoint(ORIGIN, 12, mth(LEAVES[:12]))


def test_a_wrong_origin_and_a_wrong_key_are_refused(witness: Witness) -> None:
    other = Ed25519PrivateKey.generate()
    assert witness.add_checkpoint(write_request(0, [], note(5, origin="other.example"))).status == 404
    assert witness.add_checkpoint(write_request(0, [], note(5, key=other))).status == 403
    with pytest.raises(WitnessBroken):
        witness.trust(Verifier(ORIGIN, other.public_key()))
    assert witness.head(ORIGIN) == Checkpoint(ORIGIN, 0, mth([]))


def test_a_restarted_witness_remembers_and_a_robbed_one_answers_nothing(witness: Witness, tmp_path: Path) -> None:
    assert witness.add_checkpoint(request(0, 12)).status == 200
    # What a crash in the middle of writing leaves behind.
    (tmp_path / "witness" / "state.json.part").write_bytes(b'{"witness": "wit')
    again = Witness(tmp_path / "witness", lambda: NOW)
    assert again.add_checkpoint(request(0, 5)).status == 409
    assert again.add_checkpoint(request(12, 20)).status == 200
    state = tmp_path / "witness" / "state.json"
    for spoiled in (b"", b"{}", state.read_bytes()[:-9], b'{"witness": "w", "logs": {"a": {}}}'):
        state.write_bytes(spoiled)
        with pytest.raises(WitnessBroken):
            again.add_checkpoint(request(20, 20))
    state.unlink()
    with pytest.raises(WitnessBroken):
        Witness(tmp_path / "witness", lambda: NOW)
    with pytest.raises(WitnessBroken):
        make_witness(tmp_path / "witness", "witness.example/w1")


def test_what_is_cosigned_is_on_the_disk_before(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("vivavoce.audit.witness.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        witness.add_checkpoint(request(0, 12))
    monkeypatch.undo()
    assert witness.head(ORIGIN) == Checkpoint(ORIGIN, 0, mth([]))


def test_of_two_racing_forks_one_is_cosigned(witness: Witness, tmp_path: Path) -> None:
    answers: list[int] = []

    def ask(leaves: list[bytes]) -> None:
        own = Witness(tmp_path / "witness", lambda: NOW)
        answers.append(own.add_checkpoint(request(0, 12, leaves)).status)

    threads = [threading.Thread(target=ask, args=(leaves,)) for leaves in (LEAVES, FORKED) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [200, *[409] * 7]


@given(st.text())
def test_no_request_crashes_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed-witness"
    if not folder.exists():
        make_witness(folder, "w.example")
    witness = Witness(folder, lambda: NOW)
    witness.trust(LOG)
    for body in (text, f"old 0\n{text}\n\n{note(3)}", f"old {text}\n\n{note(3)}", f"old 0\n\n{note(3)}{text}"):
        if body not in (f"old 0\n\n{note(3)}", f"old 0\n\n\n{note(3)}"):
            assert witness.add_checkpoint(body).status in (400, 403, 404, 409, 422)


def test_cosignatures_cannot_be_bent() -> None:
    cosigner = Cosigner("w.example", bytes(32))
    cosigned = note(5) + cosigner.cosign(note(5), NOW)
    for key in cosigner.keys:
        assert CosignerKey.parse(str(key)).cosigned(cosigned) == NOW
        assert key.cosigned(note(5)) is None
    assert Checkpoint.open(cosigned, LOG).size == 5
    lines = cosigner.cosign(note(5), NOW).splitlines(keepends=True)
    for line, key in zip(lines, cosigner.keys, strict=True):
        blob = base64.b64decode(line.split(" ")[-1])
        assert len(blob) in (4 + 8 + 64, 4 + 8 + 2420)
        for at in (4, 11, 12, len(blob) - 1):
            bent = bytearray(blob)
            bent[at] ^= 1
            with pytest.raises(NoteInvalid):
                key.cosigned(f"{note(5)}\N{EM DASH} w.example {base64.b64encode(bent).decode()}\n")
        with pytest.raises(NoteInvalid):
            key.cosigned(note(6) + line)
    with pytest.raises(NoteInvalid):
        Verifier.parse(str(cosigner.keys[0]))


def test_a_log_is_cosigned_over_http_and_after_a_rollback_no_more(
    sqlite_url: str, keyring: KeyRing, tmp_path: Path
) -> None:
    database, log = Database(sqlite_url), Log(keyring, "test.example/log")
    make_witness(tmp_path / "witness", "w.example")
    witness = Witness(tmp_path / "witness", lambda: NOW)
    witness.trust(log.verifier)
    objects = ObjectStore("memory://")
    heads = Heads(objects, log.verifier)
    with serving(witness) as url:
        for count in (3, 4):
            fill(database, log, count)
            with database.write() as session:
                head = log.checkpoint(session)
            with database.read() as session:
                lines = submit_head(session, log, head, url)
            first = lines.splitlines(keepends=True)[0]
            assert len(heads.add_cosignatures(head, first + first, witness.cosigner.keys)) == 1
            assert len(heads.add_cosignatures(head, lines, witness.cosigner.keys)) == 2
            assert [key.cosigned(heads.cosigned(head)) for key in witness.cosigner.keys] == [NOW, NOW]
        roll_back(database, 5)
        with database.write() as session:
            head = log.checkpoint(session)
        with database.read() as session, pytest.raises(WitnessRefused, match="rolled back"):
            submit_head(session, log, head, url)
        fill(database, log, 5)
        with database.write() as session:
            head = log.checkpoint(session)
        with database.read() as session, pytest.raises(WitnessRefused, match="422"):
            submit_head(session, log, head, url)


def test_rubbish_in_place_of_an_answer_is_a_refusal(sqlite_url: str, keyring: KeyRing) -> None:
    database, log = Database(sqlite_url), Log(keyring, "test.example/log")
    with database.write() as session:
        head = log.checkpoint(session)

    def talk() -> None:
        caller, _ = server.accept()
        with caller:
            caller.recv(1 << 16)
            caller.sendall(b"rubbish\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk)
        thread.start()
        with database.read() as session, pytest.raises(WitnessRefused, match="does not answer"):
            submit_head(session, log, head, f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def roll_back(database: Database, size: int) -> None:
    """Cut the log back with all that was signed since, as somebody with all rights on the database could."""
    unguard(database)
    with database.write() as session:
        connection = session.connection()
        connection.exec_driver_sql(f'DELETE FROM audit_leaf WHERE "index" >= {size}')
        connection.exec_driver_sql(f'DELETE FROM audit_node WHERE ("index" + 1) << level > {size}')
        connection.exec_driver_sql(f"DELETE FROM audit_checkpoint WHERE size > {size}")


class serving:  # noqa: N801 - reads as what it does
    def __init__(self, witness: Witness) -> None:
        self._server = make_server(witness, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *arguments: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_the_commands(tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        found = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return found.exit_code, found.output

    (tmp_path / "log.key").write_text(f"{LOG}\n")
    code, keys = run("init", tmp_path / "w", "--name", "w.example")
    assert (code, len(keys.splitlines())) == (0, 2)
    assert run("trust", tmp_path / "w", tmp_path / "log.key")[0] == 0
    (tmp_path / "request").write_text(request(0, 7))
    assert run("cosign", tmp_path / "w", tmp_path / "request")[1].count("\N{EM DASH} w.example ") == 2
    (tmp_path / "request").write_text(request(0, 5))
    code, said = run("cosign", tmp_path / "w", tmp_path / "request")
    assert (code, "REFUSED" in said) == (1, True)
    assert run("keys", tmp_path / "none")[0] == 1
    assert run("init", tmp_path / "w", "--name", "w.example")[0] == 1
    assert json.loads((tmp_path / "w" / "state.json").read_bytes())["logs"][ORIGIN]["size"] == 7


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path / "witness", ignore_errors=True)

"""A proof of one entry is checked with the log's key alone, and no changed byte of it passes."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy import select
from tests.audit.logs import fill
from tests.consent.world import World
from tests.release.desk import made

from vivavoce.audit.cosignatures import Cosigner
from vivavoce.audit.errors import NoSuchProof, ProofInvalid
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Verifier
from vivavoce.audit.proofs import verify_proof, write_proof
from vivavoce.audit.publishing import find_leaf, prove_leaf
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import AuditLeaf

COSIGNER = Cosigner("w.example", bytes(range(32)))


@pytest.fixture
def proven(sqlite_url: str, log: Log) -> tuple[str, str]:
    """The proof of leaf 4 of 11, and the bare note."""
    database = Database(sqlite_url)
    fill(database, log, 11)
    with database.write() as session:
        note = log.checkpoint(session)
    with database.read() as session:
        return prove_leaf(session, log, 4, note + COSIGNER.cosign(note, 1_795_000_000)), note


def test_every_leaf_is_proven(sqlite_url: str, log: Log) -> None:
    database = Database(sqlite_url)
    fill(database, log, 13)
    with database.write() as session:
        note = log.checkpoint(session)
    with database.read() as session:
        for index, data in session.execute(select(AuditLeaf.index, AuditLeaf.data)):
            text = prove_leaf(session, log, index, note)
            lines = text.split("\n")
            assert lines[0] == "c2sp.org/tlog-proof@v1"
            assert base64.b64decode(lines[1].removeprefix("extra ")) == data
            assert lines[2] == f"index {index}"
            assert text.endswith(f"\n\n{note}")
            assert verify_proof(text, log.verifier).entry["refs"] == {"job": f"job_{index}"}


def test_no_changed_byte_passes(proven: tuple[str, str], log: Log) -> None:
    text = proven[0]
    assert len(verify_proof(text, log.verifier, COSIGNER.keys).cosigned) == 1
    end = text.index("\N{EM DASH} w.example")
    for at in [*range(end), *range(end, len(text), 97)]:
        bent = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        with pytest.raises(ProofInvalid):
            verify_proof(bent, log.verifier, COSIGNER.keys)


def test_a_stripped_signature_is_missed(proven: tuple[str, str], log: Log) -> None:
    """Without the ML-DSA line, or without any, the proof is no longer cosigned by all who were asked for."""
    text = proven[0]
    assert text.count("\N{EM DASH} ") == 3
    for kept in (2, 1):
        stripped = "\N{EM DASH} ".join(text.split("\N{EM DASH} ")[: kept + 1])
        assert verify_proof(stripped, log.verifier).index == 4
        with pytest.raises(ProofInvalid, match="not cosigned"):
            verify_proof(stripped, log.verifier, COSIGNER.keys)


def test_another_place_entry_key_or_origin_is_refused(
    proven: tuple[str, str], log: Log, keyring: KeyRing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text, note = proven
    other = KeyRing.open(tmp_path_factory.mktemp("other") / "ring", create=True)
    for verifier in (Verifier(log.origin, other.log_verifier), Verifier("other.example", keyring.log_verifier)):
        with pytest.raises(ProofInvalid):
            verify_proof(text, verifier)
    for bent in (text.replace("index 4", "index 5"), text.replace("index 4", "index 04"), "", text + "\n", note):
        with pytest.raises(ProofInvalid):
            verify_proof(bent, log.verifier)
    with pytest.raises(ProofInvalid):
        verify_proof(write_proof(b'{"index":4}', 4, [], note), log.verifier)


def test_an_output_is_proven_by_its_id(small_world: World) -> None:
    """The outcome that the proof carries names the output and the digest of its bytes."""
    output = made(small_world, small_world.voice(small_world.consent()))
    with small_world.database.write() as session:
        note = small_world.log.checkpoint(session)
    with small_world.database.read() as session:
        text = prove_leaf(session, small_world.log, find_leaf(session, output.id), note)
        with pytest.raises(NoSuchProof):
            find_leaf(session, "out_unknown")
    entry = verify_proof(text, small_world.log.verifier).entry
    assert (entry["tag"], entry["refs"]["output"]) == ("job:outcome", output.id)
    assert output.sha256 in entry["facts"].values()

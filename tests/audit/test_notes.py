"""Checkpoints are C2SP signed notes that any verifier reads, and no changed byte passes."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audit.errors import NoteInvalid
from vivavoce.audit.notes import Checkpoint, Verifier, _signed

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = Verifier("log.example/one", KEY.public_key())
HEAD = Checkpoint("log.example/one", 20852163, bytes(range(32)))
NOTE = HEAD.sign(KEY)


def test_a_published_note_verifies() -> None:
    """Key, text and signature from the documentation of golang.org/x/mod/sumdb/note."""
    verifier = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = (
        "\N{EM DASH} PeterNeumann "
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert _signed(text, line, verifier)
    with pytest.raises(NoteInvalid):
        _signed(text.replace("your", "my"), line, verifier)


def test_the_note_has_the_standards_shape() -> None:
    lines = NOTE.split("\n")
    assert lines[:2] == ["log.example/one", "20852163"]
    assert base64.b64decode(lines[2]) == bytes(range(32))
    assert lines[3] == ""
    dash, name, signature = lines[4].split(" ")
    assert (dash, name, lines[5:]) == ("\N{EM DASH}", "log.example/one", [""])
    blob = base64.b64decode(signature)
    assert blob[:4] == VERIFIER.key_id
    KEY.public_key().verify(blob[4:], "\n".join(lines[:3]).encode() + b"\n")
    assert Checkpoint.open(NOTE, VERIFIER) == HEAD


def test_a_verifier_key_survives_being_written_down() -> None:
    assert str(Verifier.parse(f"{VERIFIER}\n")) == str(VERIFIER)


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_no_changed_character_passes(position: int, character: str) -> None:
    changed = NOTE[:position] + character + NOTE[position + 1 :]
    if changed != NOTE:
        with pytest.raises(NoteInvalid):
            Checkpoint.open(changed, VERIFIER)


@given(st.integers(0, len(str(VERIFIER)) - 1), st.characters())
def test_no_changed_verifier_key_opens_the_note(position: int, character: str) -> None:
    text = str(VERIFIER)
    changed = text[:position] + character + text[position + 1 :]
    if changed.strip() != text:
        with pytest.raises(NoteInvalid):
            Checkpoint.open(NOTE, Verifier.parse(changed))


def test_another_key_of_the_same_name_does_not_open_it() -> None:
    other = Verifier(VERIFIER.name, Ed25519PrivateKey.generate().public_key())
    with pytest.raises(NoteInvalid, match="not signed by"):
        Checkpoint.open(NOTE, other)


def test_a_cosignature_is_passed_over() -> None:
    """A witness adds its line; a reader who knows only the log's key still reads the note."""
    witness = Ed25519PrivateKey.generate()
    cosigned = NOTE + Checkpoint("witness.example", 1, bytes(32)).sign(witness).split("\n\n")[1]
    assert Checkpoint.open(cosigned, VERIFIER) == HEAD


@pytest.mark.parametrize("size", ["-1", "01", "1 ", "٣", "1e3", "", "9" * 5000])
def test_an_odd_size_is_refused_even_when_signed(size: str) -> None:
    text = f"log.example/one\n{size}\n{base64.b64encode(bytes(32)).decode()}\n"
    signature = base64.b64encode(VERIFIER.key_id + KEY.sign(text.encode())).decode()
    with pytest.raises(NoteInvalid):
        Checkpoint.open(f"{text}\n\N{EM DASH} log.example/one {signature}\n", VERIFIER)


@given(st.text())
def test_no_text_crashes_the_reader(text: str) -> None:
    for note in (text, f"{text}\n\n{text}\n", f"a\n\n\N{EM DASH} log.example/one {text}\n"):
        with pytest.raises(NoteInvalid):
            Checkpoint.open(note, VERIFIER)
    with pytest.raises(NoteInvalid):
        Verifier.parse(text)

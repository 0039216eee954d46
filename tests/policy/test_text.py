"""What may be asked to be said."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text import MAX_CHARACTERS, checked_text


def refusal(text: str) -> str:
    with pytest.raises(PolicyRefused) as caught:
        checked_text(text)
    return caught.value.code


@pytest.mark.parametrize("text", ["", " ", "\n\t\n", "\u200b\u200b", "\u00a0\u2003", "\ufeff", "\u2028"])
def test_a_text_must_say_something(text: str) -> None:
    assert refusal(text) == "text_empty"


@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f", "\x85", "\r", "\ud800", "\udfff"])
def test_control_characters_and_halves_of_characters_are_refused(character: str) -> None:
    assert refusal(f"He said {character} no") == "text_control_characters"


def test_lines_and_tabs_are_text() -> None:
    assert checked_text(" One\r\ntwo\tthree \n") == "One\ntwo\tthree"


def test_the_limit_is_counted_after_normalisation() -> None:
    assert checked_text("é" * MAX_CHARACTERS)
    assert checked_text("e\u0301" * MAX_CHARACTERS) == "é" * MAX_CHARACTERS
    assert checked_text(" " * 100 + "a" * MAX_CHARACTERS)
    assert refusal("a" * (MAX_CHARACTERS + 1)) == "text_too_long"
    # One code point that NFC turns into three.
    assert refusal("\ufb2c" * (MAX_CHARACTERS // 2)) == "text_too_long"


def test_a_huge_text_is_refused_before_any_work_on_it() -> None:
    began = time.perf_counter()
    assert refusal("a" * 100_000) == "text_too_long"
    assert refusal("\u0301" * 5_000_000) == "text_too_long"
    assert time.perf_counter() - began < 1


@given(st.text(max_size=300))
def test_what_passes_is_clean_and_passes_again_unchanged(text: str) -> None:
    """Whatever text comes: refused by a name, or normal text that UTF-8 can say."""
    try:
        passed = checked_text(text)
    except PolicyRefused as refused:
        assert refused.code.startswith("text_")
        return
    assert 0 < len(passed) <= MAX_CHARACTERS
    assert passed == checked_text(passed)
    assert unicodedata.is_normalized("NFC", passed)
    passed.encode()

"""The sentences that people read: versioned, append-only, and strict about their form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vivavoce.consent import ConsentInvalid
from vivavoce.consent.statements import languages, parse, statement

TEXT = "I agree that my voice may be used for this."


def catalogue(**changes: Any) -> str:
    one = {"id": "voice-consent", "version": "1", "since": "2026-11-01", "text": TEXT}
    return json.dumps({"schema": 1, "language": "de", "statements": [one, one | {"version": "2"}]} | changes)


def test_every_language_has_a_readable_statement() -> None:
    assert "en" in languages()
    for language in languages():
        assert statement(language).text


def test_the_english_wording_of_version_1_never_changes() -> None:
    """Recorded consents point at it: a new wording is a new version."""
    digest = "806d81e4653efed6ef04fde55dd42ea376fc517b3e7fb1fa2b1c66ed68da7f3e"
    assert statement("en", "1").sha256 == digest


def test_a_catalogue_keeps_its_versions_in_order() -> None:
    read = parse(catalogue(), "de")
    assert [entry.version for entry in read.statements] == ["1", "2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"language": "en"},
        {"statements": []},
        {"extra": 1},
        {"statements": [{"id": "a", "version": "2", "since": "2026-11-01", "text": TEXT}]},
        {"statements": [{"id": "a", "version": "1", "since": "2026-11-01", "text": "too short"}]},
    ],
)
def test_a_malformed_catalogue_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="catalogue"):
        parse(catalogue(**changes), "de")


def test_an_unknown_version_is_no_statement() -> None:
    with pytest.raises(ConsentInvalid, match="statement_unknown"):
        statement("en", "99")

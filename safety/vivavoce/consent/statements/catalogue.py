"""The catalogue's files: their schema, checked when they are read, and how a version is found."""

from __future__ import annotations

import hashlib
import math
import string
from collections import Counter
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.scope import Purpose
from vivavoce.consent.statements.spoken import spoken_form

_PACKAGE = "vivavoce.consent.statements"

WORDS = 4
"""One-time words in a challenge."""
CHALLENGE_BITS = 32
"""What the words of a challenge carry at least, drawn without repetition from the list."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wording(_Strict):
    """One fixed text in one version; `{slots}` are filled in for each speaker."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,79}$")
    version: str = Field(pattern=r"^[0-9]{1,9}$")
    since: date
    text: str = Field(min_length=20)

    @property
    def slots(self) -> Counter[str]:
        """Names of the slots, with how often each occurs."""
        return _slots(self.text)


class Statement(Wording):
    """The legal sentence; what the speaker says."""

    challenge: str = ""
    """Sentence that carries the one-time words; none in versions that had no challenge."""

    @property
    def sha256(self) -> str:
        """Digest of the wording (hexadecimal); the log carries it, so that it cannot be swapped later."""
        whole = f"{self.text}\n{self.challenge}" if self.challenge else self.text
        return hashlib.sha256(whole.encode()).hexdigest()

    @model_validator(mode="after")
    def _slots_are_known(self) -> Self:
        if self.slots not in (Counter(), Counter(("speaker", "company", "purposes", "date"))):
            raise ValueError("a statement has the slots speaker, company, purposes and date, once each, or none")
        if _slots(self.challenge) != Counter(("words",) if self.slots else ()) or bool(self.slots) != bool(
            self.challenge
        ):
            raise ValueError("a statement with slots has a challenge with the slot words")
        return self


class Notice(Wording):
    """What is shown before recording: what is stored, why, how long, and the speaker's rights."""

    @property
    def sha256(self) -> str:
        """Digest of the wording (hexadecimal)."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @model_validator(mode="after")
    def _slots_are_known(self) -> Self:
        if self.slots != Counter(("company", "date")):
            raise ValueError("a notice has the slots company and date, once each")
        return self


class Catalogue(_Strict):
    """All that is said and shown in one language; versions oldest first."""

    schema_version: Literal[2] = Field(alias="schema")
    language: str = Field(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$")
    """BCP 47 tag; the file is named after it."""
    review: str
    """Who has reviewed the texts."""
    date: str
    """How a date is written, with {day}, {month} and {year}."""
    months: tuple[str, ...] = Field(min_length=12, max_length=12)
    comma: str
    last: str
    """What stands between the parts of a list, and before its last part."""
    purposes: dict[Purpose, str]
    statements: tuple[Statement, ...] = Field(min_length=1)
    notices: tuple[Notice, ...] = Field(min_length=1)
    words: tuple[str, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for wordings in (self.statements, self.notices):
            _require_rising(wordings)
        if set(self.purposes) != set(Purpose):
            raise ValueError("a catalogue names every purpose")
        if _slots(self.date) != Counter(("day", "month", "year")):
            raise ValueError("a date has a day, a month and a year")
        return self

    @model_validator(mode="after")
    def _words_can_be_told_apart(self) -> Self:
        said = [spoken_form(word, self.language) for word in self.words]
        if len(set(said)) != len(said) or not all(said):
            raise ValueError("a one-time word is listed twice, or says nothing")
        if any(" " in word for word in said):
            raise ValueError("a one-time word is one word")
        if math.perm(len(said), WORDS) < 1 << CHALLENGE_BITS:
            raise ValueError(f"{len(said)} one-time words are too few for {CHALLENGE_BITS} bits")
        return self


def languages() -> list[str]:
    """List the languages for which there is a statement."""
    names = (entry.name for entry in files(_PACKAGE).iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def catalogue(language: str) -> Catalogue:
    """Give all texts in a language; raises `ConsentInvalid` (statement_unknown)."""
    if language not in languages():
        raise ConsentInvalid("statement_unknown", f"there is no consent statement in this language; use {languages()}")
    return _read(language)


def statement(language: str, version: str | None = None) -> Statement:
    """Give the statement in a language, in its newest version or the one named.

    Raises:
        ConsentInvalid: `statement_unknown`: not in this language or version.
    """
    return _version(catalogue(language).statements, language, version)


def notice(language: str, version: str | None = None) -> Notice:
    """Give the notice in a language, in its newest version or the one named; raises as `statement`."""
    return _version(catalogue(language).notices, language, version)


def parse(data: str | bytes, language: str) -> Catalogue:
    """Read a catalogue file.

    Raises:
        ValueError: Not of the catalogue's schema, or not for the language that its name says.
    """
    try:
        read = Catalogue.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"the catalogue of statements in {language} is malformed: {error}") from error
    if read.language != language:
        raise ValueError(f"the catalogue named {language} is for {read.language}")
    return read


_AnyWording = TypeVar("_AnyWording", bound=Wording)


def _version(known: tuple[_AnyWording, ...], language: str, version: str | None) -> _AnyWording:
    for candidate in known:
        if candidate.version == (version or known[-1].version):
            return candidate
    raise ConsentInvalid("statement_unknown", f"the {known[-1].id} in {language} has no such version")


def _slots(text: str) -> Counter[str]:
    # A slot is a bare name: no format, no attribute, no position.
    return Counter(
        name if not (how or form) else "" for _, name, form, how in string.Formatter().parse(text) if name is not None
    )


def _require_rising(wordings: tuple[Wording, ...]) -> None:
    if [int(wording.version) for wording in wordings] != list(range(1, len(wordings) + 1)):
        raise ValueError("versions count up from 1, with no gap")
    if len({wording.id for wording in wordings}) != 1:
        raise ValueError("a catalogue holds the versions of one statement and of one notice")


@cache
def _read(language: str) -> Catalogue:
    return parse((files(_PACKAGE) / f"{language}.json").read_bytes(), language)

"""The sentences that speakers read when they consent, one file a language.

A file is append-only: a changed wording is a new version, since recorded consents point at the one that was read.
"""

from __future__ import annotations

import hashlib
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vivavoce.consent.errors import ConsentInvalid


class Statement(BaseModel):
    """One fixed sentence in one version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,79}$")
    version: str = Field(pattern=r"^[0-9]{1,9}$")
    since: date
    text: str = Field(min_length=20)

    @property
    def sha256(self) -> str:
        """Digest of the text (hexadecimal); the log carries it, so that the wording cannot be swapped later."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Catalogue(BaseModel):
    """All versions of the statement in one language, oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(alias="schema")
    language: str = Field(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$")
    """BCP 47 tag; the file is named after it."""
    statements: tuple[Statement, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _versions_rise(self) -> Self:
        versions = [int(statement.version) for statement in self.statements]
        if versions != list(range(1, len(versions) + 1)):
            raise ValueError("versions of a statement count up from 1, with no gap")
        if len({statement.id for statement in self.statements}) != 1:
            raise ValueError("a catalogue holds the versions of one statement")
        return self


def languages() -> list[str]:
    """List the languages for which there is a statement."""
    names = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def statement(language: str, version: str | None = None) -> Statement:
    """Give the statement in a language, in its newest version or the one named.

    Raises:
        ConsentInvalid: `statement_unknown`: not in this language or version.
    """
    if language not in languages():
        raise ConsentInvalid("statement_unknown", f"there is no consent statement in this language; use {languages()}")
    known = _catalogue(language).statements
    for candidate in known:
        if candidate.version == (version or known[-1].version):
            return candidate
    raise ConsentInvalid("statement_unknown", f"the statement in {language} has no such version")


def parse(data: str | bytes, language: str) -> Catalogue:
    """Read a catalogue file.

    Raises:
        ValueError: Not of the catalogue's schema, or not for the language that its name says.
    """
    try:
        catalogue = Catalogue.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"the catalogue of statements in {language} is malformed: {error}") from error
    if catalogue.language != language:
        raise ValueError(f"the catalogue named {language} is for {catalogue.language}")
    return catalogue


@cache
def _catalogue(language: str) -> Catalogue:
    return parse((files(__name__) / f"{language}.json").read_bytes(), language)

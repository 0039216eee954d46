"""Asking the rules about a text: data files, one a language, name what fraud, threats and abuse are said with.

A rule joins terms: "asks for" and "one-time code" within so many sentences, unless one of these warns or reports.
A term is a list of phrases. In a phrase, a space is any space or none, `*` any ending, `..` up to three words (up to 12
characters where a script has no spaces), `(a|b|)` a choice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vivavoce.consent.profiles import STRICTEST
from vivavoce.consent.statements import spoken_form
from vivavoce.policy.text_folding import Sentence, readings

_PACKAGE = "vivavoce.policy.text_rules"
# Devanagari vowel signs belong to words, and Python's \w leaves them out.
_W = r"[\w\u0900-\u097f]"


class Category(StrEnum):
    """What a rule is against."""

    FRAUD_SCRIPT = "fraud_script"
    ONE_TIME_CODE = "one_time_code"
    IMPERSONATION = "impersonation"
    THREAT = "threat"
    SEXUAL_MINORS = "sexual_minors"


class Outcome(StrEnum):
    """What becomes of a text, mildest first."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


@dataclass(frozen=True)
class Hit:
    """A rule that a text meets, and by which of its words."""

    rule: str
    category: Category
    language: str
    explanation: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What the rules say of a text."""

    outcome: Outcome
    hits: tuple[Hit, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Strict):
    """Terms that make something of a text when they stand together."""

    id: str
    category: Category
    needs: tuple[str, ...] = Field(min_length=1)
    sentences: int = Field(ge=1, le=5)
    """Within how many sentences on end."""
    unless: tuple[str, ...]
    explanation: str = Field(min_length=20)


class Rules(_Strict):
    """All rules, and what becomes of a text under each compliance profile."""

    schema_version: Literal[1] = Field(alias="schema")
    rules: tuple[Rule, ...]
    profiles: dict[str, dict[Category, Outcome]]

    @model_validator(mode="after")
    def _every_profile_is_whole(self) -> Self:
        for name, outcomes in self.profiles.items():
            if set(outcomes) != set(Category):
                raise ValueError(f"profile {name} decides every category")
            if outcomes[Category.SEXUAL_MINORS] is not Outcome.BLOCK:
                raise ValueError(f"profile {name} blocks sexual content about minors, as every profile does")
        return self


class Lexicon(_Strict):
    """How one language says the terms."""

    schema_version: Literal[1] = Field(alias="schema")
    language: str
    review: str
    """Who has reviewed the phrases."""
    spaced: bool
    """Whether words stand apart and begin and end where a phrase does."""
    terms: dict[str, tuple[str, ...]]


_Finder = Callable[[Sentence], str | None]


def judge(text: str, profile: str = STRICTEST) -> Judgement:
    """Ask all rules in all languages about a text; its stated language may be wrong, so it is not asked for.

    Raises:
        KeyError: There is no such profile.
    """
    outcomes = rules().profiles[profile]
    found: dict[tuple[str, str], Hit] = {}
    for sentences, language in product(readings(text), lexicons()):
        finders: dict[tuple[str, int], str | None] = {}
        for rule in rules().rules:
            words = _meets(rule, sentences, language, finders)
            if words:
                hit = Hit(rule.id, rule.category, language, rule.explanation, words)
                found.setdefault((rule.id, language), hit)
    hits = tuple(found.values())
    return Judgement(
        max((outcomes[hit.category] for hit in hits), key=list(Outcome).index, default=Outcome.ALLOW), hits
    )


def _meets(
    rule: Rule, sentences: list[Sentence], language: str, known: dict[tuple[str, int], str | None]
) -> tuple[str, ...]:
    """Give the words by which a rule is met, none when it is not."""

    def find(term: str, index: int) -> str | None:
        if (term, index) not in known:
            known[term, index] = _finder(language, term)(sentences[index])
        return known[term, index]

    for first in range(len(sentences)):
        window = range(first, min(first + rule.sentences, len(sentences)))
        places = [[index for index in window if find(term, index)] for term in rule.needs]
        for choice in product(*places):
            if not any(find(term, index) for term in rule.unless for index in set(choice)):
                return tuple(find(term, index) or "" for term, index in zip(rule.needs, choice, strict=True))
    return ()


@cache
def rules() -> Rules:
    """Read the rules."""
    return Rules.model_validate_json((files(_PACKAGE) / "rules.json").read_bytes())


@cache
def lexicons() -> dict[str, Lexicon]:
    """Read how each language says the terms; raises `ValueError` where one leaves a term out."""
    names = sorted(
        entry.name.removesuffix(".json") for entry in files(_PACKAGE).iterdir() if entry.name.endswith(".json")
    )
    read = {name: _lexicon(name) for name in names if name != "rules"}
    needed = {term for rule in rules().rules for term in (*rule.needs, *rule.unless)}
    for name, lexicon in read.items():
        if lexicon.language != name or set(lexicon.terms) != needed:
            raise ValueError(f"the terms in {name} are not those that the rules name")
    return read


def _lexicon(name: str) -> Lexicon:
    return Lexicon.model_validate(json.loads((files(_PACKAGE) / f"{name}.json").read_bytes()))


@cache
def _finder(language: str, term: str) -> _Finder:
    lexicon = lexicons()[language]
    phrases = "|".join(_phrase(phrase, lexicon.spaced) for phrase in lexicon.terms[term])
    solid = re.compile("|".join(_phrase(phrase, spaced=False) for phrase in lexicon.terms[term]))
    words = re.compile(f"(?<!{_W})(?:{phrases})(?!{_W})") if lexicon.spaced else None

    def find(sentence: Sentence) -> str | None:
        found = words.search(sentence.text) if words else None
        # Letters set apart, or a script without spaces: word boundaries are gone.
        if found is None and sentence.solid:
            found = solid.search(sentence.solid)
        return found[0] if found else None

    return find


def _phrase(phrase: str, spaced: bool) -> str:
    """Turn a phrase into a pattern over folded text."""
    gap = r"(?:\s\S+){0,3}?\s*" if spaced else ".{0,12}?"
    made = []
    for part in re.split(r"(\.\.|[ *.?()|\[\]+]|(?<=\[)[^]]*)", phrase):
        match part:
            case "..":
                made.append(gap)
            case " ":
                made.append(r"\s*" if spaced else "")
            case "*":
                made.append(f"{_W}*" if spaced else f"{_W}{{0,6}}?")
            case "(":
                made.append("(?:")
            case "." | "?" | ")" | "|" | "[" | "]" | "+":
                made.append(part)
            case _:
                made.append(part if made and made[-1] == "[" else spoken_form(part, "en"))
    return "".join(made)

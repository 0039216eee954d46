"""The texts that people read: versioned, append-only, strict about their form; and words that can be told apart."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import date
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.consent import ConsentInvalid, Purpose
from vivavoce.consent.statements import (
    WORDS,
    Terms,
    compose,
    draw_words,
    languages,
    notice,
    parse,
    spoken_form,
    statement,
)
from vivavoce.consent.statements.catalogue import catalogue

ALL = ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru", "zh"]
TERMS = Terms("Jane Reader", "Example Ltd", frozenset({Purpose.AUDIOBOOK, Purpose.RESEARCH}), date(2027, 11, 23))
RELEASED = {
    "ar voice-consent 1": "0db93f0e91e4470f6fd7fe45590d7e15",
    "ar voice-notice 1": "fb34f32b63df1eca98e7e619c4d5fdb8",
    "de voice-consent 1": "a20a3fe16319aa9586e0c6cd3a533a65",
    "de voice-notice 1": "08e39110843c7e63c51fe92dc0771806",
    "en voice-consent 1": "806d81e4653efed6ef04fde55dd42ea3",
    "en voice-consent 2": "609511574adbdcb0b6b486e9b6613004",
    "en voice-notice 1": "2168938836356ab1361d9c2981c7c5fa",
    "es voice-consent 1": "c7dcb2b9a8694e52dde663d3c7742a5a",
    "es voice-notice 1": "b54d796849680ba8e94b88b33c6ed8b7",
    "fr voice-consent 1": "d2bbf0c07a7aec8a5cfb6b775fe0073f",
    "fr voice-notice 1": "3bb38f586f89199c5dcaf154eec747b6",
    "hi voice-consent 1": "23824167739f62debf907bc0c80ce007",
    "hi voice-notice 1": "74b99e5dfbf58e689b4b30567beb04f7",
    "it voice-consent 1": "3e9f095b31f074524f81d7ad1950f95a",
    "it voice-notice 1": "79f1c6de41fb6101f69dd85028db8796",
    "ja voice-consent 1": "dc736a701be3b62c82cc5d0d97b96258",
    "ja voice-notice 1": "256de9b2082735ba206266f21ffde404",
    "ko voice-consent 1": "bb61228ec3eef582b48715bf312d27e0",
    "ko voice-notice 1": "382d0f6365b104cbc1c82b76bf43d196",
    "pt voice-consent 1": "7253625e44dc9ea798be94a62461c0a4",
    "pt voice-notice 1": "8d56aa709fcb98bffee23549790252a6",
    "ru voice-consent 1": "188fa4810209b05636fd739dd34e52d5",
    "ru voice-notice 1": "fe383640d273abe22faf9f02a1929ec5",
    "zh voice-consent 1": "1d8d1535c6fb6e62dbede1b729abe244",
    "zh voice-notice 1": "c25d1b8c148039af14baf165f43e9dfe",
}
"""First half of the digest of every version ever released, statement and notice; only ever added to."""

every_language = pytest.mark.parametrize("language", ALL)


def malformed(**changes: Any) -> str:
    """The German catalogue with something else in it."""
    data = json.loads((files("vivavoce.consent.statements") / "de.json").read_text())
    return json.dumps(data | changes)


def wording(**changes: Any) -> dict[str, Any]:
    text = "I, {speaker}, agree with {company} on {purposes} until {date}."
    return {"id": "a", "version": "1", "since": "2026-11-01", "text": text, "challenge": "{words}"} | changes


def test_these_languages_have_a_statement() -> None:
    assert languages() == ALL


def test_no_released_wording_ever_changes() -> None:
    """Recorded consents point at it: a new wording is a new version."""
    released = {
        f"{language} {entry.id} {entry.version}": entry.sha256[:32]
        for language in languages()
        for entry in (*catalogue(language).statements, *catalogue(language).notices)
    }
    assert released == RELEASED


@every_language
def test_what_is_shown_says_who_to_whom_what_for_and_until_when(language: str) -> None:
    words = draw_words(language, TERMS)
    shown = compose(language, TERMS, words)
    purposes = catalogue(language).purposes
    for part in ("Jane Reader", "Example Ltd", purposes[Purpose.AUDIOBOOK], purposes[Purpose.RESEARCH], "2027", "23"):
        assert part in shown.text
    assert all(word in shown.text for word in words)
    assert purposes[Purpose.ADVERTISING] not in shown.text
    assert "Example Ltd" in shown.notice
    assert "2027" in shown.notice
    assert "{" not in shown.text + shown.notice
    assert (shown.statement_version, shown.notice_version) == (statement(language).version, notice(language).version)


@every_language
def test_the_words_cannot_be_foreseen_nor_confused(language: str) -> None:
    """32 bits; and no word is one slip of a letter (of a syllable's part in Korean) away from another."""
    words = [_sounds(spoken_form(word, language), language) for word in catalogue(language).words]
    assert math.perm(len(words), WORDS) >= 2**32
    close = [(a, b) for index, a in enumerate(words) for b in words[:index] if _confusable(a, b, language)]
    assert not close
    drawn = draw_words(language, TERMS)
    assert len(set(drawn)) == WORDS
    assert drawn != draw_words(language, TERMS)


@every_language
def test_no_word_is_drawn_that_the_sentence_has(language: str) -> None:
    """It would be heard in the sentence, and need not be said."""
    named = catalogue(language).words[:5]
    terms = Terms(f"Jane {named[0]} Reader", " ".join(named[1:]), frozenset(Purpose), TERMS.until)
    assert not {word for _ in range(100) for word in draw_words(language, terms)} & set(named)


def test_a_name_that_looks_like_a_slot_stays_a_name() -> None:
    shown = compose("en", Terms("{company} {words}", "{date}", TERMS.purposes, TERMS.until), ("a", "b", "c", "d"))
    assert shown.text.startswith("I, {company} {words}, am the owner of this voice. I agree that {date} may")
    with pytest.raises(ConsentInvalid, match="name_empty"):
        compose("en", Terms(" ", "Example Ltd", TERMS.purposes, TERMS.until), ())


@pytest.mark.parametrize(
    ("language", "shown", "heard"),
    [
        ("en", "I, Jane,  don't AGREE -- until 23 November!", "i jane dont agree until 23 november"),
        ("en", "\uff26\uff55\uff4c\uff4c width, so\u00adft\u200b hyphen", "full width soft hyphen"),
        ("fr", "J\u2019ai dit : \u00ab d\u00e9j\u00e0 \u00bb", "jai dit deja"),
        ("de", "Stra\u00dfe, \u00dcbung", "strasse ubung"),
        ("ru", "Ещё ёлка", "еще елка"),
        ("ar", "أَهْلًا مدرسـة ١٢", "اهلا مدرسه 12"),
        ("hi", "चाँद, फ़िल्म १२।", "चांद फिल्म 12"),
        ("ja", "ｶﾒﾗ と りんご。", "かめらとりんご"),
        ("ko", "오늘의 낱말", "오늘의낱말"),
        ("zh", "我 同意，１２。", "我同意12"),
    ],
)
def test_what_sounds_alike_is_alike(language: str, shown: str, heard: str) -> None:
    assert spoken_form(shown, language) == heard


@pytest.mark.parametrize("pair", [("hi", "की", "का"), ("ja", "か", "が"), ("ko", "가", "각"), ("ru", "кот", "код")])
def test_what_sounds_different_stays_different(pair: tuple[str, str, str]) -> None:
    language, one, other = pair
    assert spoken_form(one, language) != spoken_form(other, language)


@given(st.text(max_size=60), st.sampled_from(ALL))
def test_the_spoken_form_is_final(text: str, language: str) -> None:
    heard = spoken_form(text, language)
    assert spoken_form(heard, language) == heard


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 1},
        {"language": "en"},
        {"statements": []},
        {"extra": 1},
        {"months": ["Januar"]},
        {"purposes": {"general": "alles"}},
        {"date": "{day}.{month}."},
        {"words": ["eins", "zwei", "drei"]},
        {"words": ["Apfel", *catalogue("de").words]},
        {"statements": [wording(version="2")]},
        {"statements": [wording(), wording(version="3")]},
        {"statements": [wording(), wording(version="2", id="b")]},
        {"statements": [wording(text="too short")]},
        {"statements": [wording(text="No slot is in here, yet a challenge.")]},
        {"statements": [wording(challenge="No words.")]},
        {"statements": [wording(text="I, {speaker}, agree with {company} on {purposes} until {date.year}.")]},
        {"notices": [wording(challenge="", text="We store what we like.")]},
    ],
)
def test_a_malformed_catalogue_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="catalogue"):
        parse(malformed(**changes), "de")


@pytest.mark.parametrize(("language", "version"), [("en", "99"), ("tlh", None), ("../en", None)])
def test_an_unknown_version_is_no_statement(language: str, version: str | None) -> None:
    for find in (statement, notice):
        with pytest.raises(ConsentInvalid, match="statement_unknown"):
            find(language, version)


def _sounds(word: str, language: str) -> str:
    return unicodedata.normalize("NFD", word) if language == "ko" else word


def _confusable(a: str, b: str, language: str) -> bool:
    if language == "zh":
        return a[0] == b[0]
    if language == "ja" and not all("\u3040" <= character <= "\u30ff" for character in a + b):
        return a == b
    if abs(len(a) - len(b)) > 1:
        return False
    a, b = sorted((a, b), key=len)
    same = next((index for index, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), len(a))
    return a[same + 1 :] == b[same + 1 :] or a[same:] == b[same + 1 :]

"""Texts for fraud, threats and abuse are refused with the reason, however they are dressed; ordinary ones pass."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.consent.world import World, on_sqlite
from tests.policy.measure import DATA, NONE, by_category, judged, refused

from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.text import MAX_CHARACTERS, checked_text
from vivavoce.policy.text_judging import Category, Outcome, Rules, judge, lexicons, rules

ASKS = "Please tell me the verification code we sent you."


def codes(text: str) -> set[str]:
    return {hit.category for hit in judge(text).hits}


@pytest.mark.parametrize(
    "text",
    [
        ASKS,
        ASKS.upper(),
        "Please tell me the veri\u200bfica\u00adtion co\u2060de",
        "Please tell me the v e r i f i c a t i o n  c o d e",
        "t.e.l.l m.e t.h.e v.e.r.i.f.i.c.a.t.i.o.n c.o.d.e",
        "T e l l m e t h e v e r i f i c a t i o n c o d e",
        "Pl3ase te11 me the v3r1f1cat10n c0de",
        "tell me the verific@tion c0d3",
        "Tеll mе thе vеrificаtiоn соdе",
        "tell me thε vεrificatiοn cοdε",
        "\uff34\uff45\uff4c\uff4c me the \uff56erification code",
        "\U0001d413\U0001d41e\U0001d425\U0001d425 me the \U0001d42f\U0001d41e\U0001d42b\U0001d422fication code",
        "tell\nme the\nverification   code",
        "te\u0301ll me the ve\u0308rification co\u0302de",
        "tell me the verification\u3164code",
        "Продиктуйте kод из cмc",
        "请把验 证 码告 诉 我",
        "인 증 번 호 를 알려 주세요",
    ],
)
def test_a_disguise_changes_nothing(text: str) -> None:
    assert Category.ONE_TIME_CODE in codes(text)


@pytest.mark.parametrize(
    "text",
    [
        "Your code is 482 915. Never share it.",
        "Agent 007 has 3 cars, 1 boat and a 4-door house at 10 a.m.",
        "A B C D E F G, sing the letters with me.",
        "Москва and Paris are два big cities.",
        "Σ is the sum, and α a small angle.",
        "W.H.O. and U.N. officials met in the U.S.A.",
        "We l1ve in a h0use.",
    ],
)
def test_odd_writing_alone_is_no_offence(text: str) -> None:
    assert judge(text).outcome is Outcome.ALLOW


def test_a_refusal_says_why_in_plain_words_and_does_not_repeat_the_text() -> None:
    with pytest.raises(PolicyRefused) as caught:
        checked_text(ASKS + " Jane")
    assert caught.value.code == "text_blocked"
    assert "asks somebody for a one-time code" in caught.value.detail
    assert "Jane" not in caught.value.detail
    (hit,) = judge(ASKS).hits
    assert (hit.language, hit.words) == ("en", ("tell me", "verification code"))


def test_the_profile_decides_what_becomes_of_a_hit() -> None:
    threat = "I will kill you tonight."
    assert judge(threat, "max").outcome is Outcome.BLOCK
    assert judge(threat, "eu").outcome is Outcome.REVIEW
    with pytest.raises(PolicyRefused) as caught:
        checked_text(threat, "eu")
    assert caught.value.code == "text_needs_review"
    with pytest.raises(KeyError):
        judge(threat, "none")


def test_the_worst_hit_decides() -> None:
    both = f"I will kill you tonight. {ASKS}"
    assert judge(both, "eu").outcome is Outcome.BLOCK
    assert len(judge(both, "eu").hits) == 2


def test_a_warning_does_not_shelter_the_next_sentence() -> None:
    assert judge("Never share your code with anybody.").outcome is Outcome.ALLOW
    assert judge(f"Never share your code with anybody. {ASKS}").outcome is Outcome.BLOCK


@on_sqlite
def test_admission_refuses_and_the_log_says_so(world: World) -> None:
    """In the text and in the instructions; nothing of the text gets into the log."""
    voice = world.voice(world.consent())
    for request in ({"text": ASKS}, {"text": "Hello.", "instructions": ASKS}):
        before = world.snapshot()
        with pytest.raises(PolicyRefused, match="text_blocked"):
            world.admit(world.submission(voice, request=request))
        assert world.snapshot() == before


@pytest.mark.parametrize(
    "text", ["a" * MAX_CHARACTERS, "tell me " * 512, "a " * 2048, ("code " * 9 + "\n") * 90, "我" * 4096]
)
def test_the_longest_texts_are_judged_soon(text: str) -> None:
    began = time.perf_counter()
    judge(text)
    assert time.perf_counter() - began < 2


@given(st.text(max_size=200))
def test_every_text_is_judged(text: str) -> None:
    judge(text)


def test_every_language_has_every_term_and_no_phrase_says_nothing() -> None:
    assert sorted(lexicons()) == ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru", "zh"]
    assert {rule.category for rule in rules().rules} == set(Category)
    assert judge("x").hits == ()


def weaker(**changes: Any) -> dict[str, Any]:
    data = rules().model_dump(mode="json", by_alias=True)
    return data | changes


def test_no_profile_lets_sexual_content_about_minors_through() -> None:
    outcomes = {str(category): "allow" for category in Category}
    for profiles in ({"lax": outcomes}, {"half": {"threat": "block"}}):
        with pytest.raises(ValueError, match="profile"):
            Rules.model_validate(weaker(profiles=profiles))


def test_the_labelled_sets_are_apart() -> None:
    parts = [
        [json.loads(line) for line in (DATA / f"{part}.jsonl").read_text().splitlines()] for part in ("dev", "held_out")
    ]
    texts = [row["text"] for part in parts for row in part]
    assert len(texts) == len(set(texts)) >= 400
    assert len({row["language"] for part in parts for row in part}) == 12
    assert sum(row["category"] == NONE for part in parts for row in part) >= len(texts) / 2
    assert {row["category"] for row in parts[1]} == {NONE, *map(str, Category)}


@pytest.mark.parametrize(("part", "precision", "recall"), [("dev", 0.95, 0.95), ("held_out", 0.9, 0.7)])
def test_the_rules_are_not_worse_than_reported(part: str, precision: float, recall: float) -> None:
    """`python -m tests.policy.measure` prints the figures; these are floors below them."""
    lines = judged(part)
    score = refused(lines)
    assert score.precision >= precision, [line.text for line in lines if line.refused and line.category == NONE]
    assert score.recall >= recall
    assert set(by_category(lines)) == set(Category)

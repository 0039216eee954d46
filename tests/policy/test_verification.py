"""Judging a recording: the words that were shown, by a voice that can be heard, or the reason why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.consent.scope import Purpose
from vivavoce.consent.statements import Reading, Terms, compose, draw_words, languages
from vivavoce.policy.heard_words import edit_distance, words_heard, words_stretch
from vivavoce.policy.verification import DOUBT, REASONS, THRESHOLDS, Measured, judge
from vivavoce.verification.splices import Unity
from vivavoce.verification.transcription import Piece

TERMS = Terms("Jane Reader", "Audio Books Ltd", frozenset({Purpose.GENERAL}), date(2027, 11, 23))
SHOWN = compose("en", TERMS, ("apple", "bridge", "carpet", "window"))
GOOD = Measured(
    speech_seconds=12.0,
    level_db=-22.0,
    clipped=0.0,
    snr_db=30.0,
    ours=False,
    transcript=SHOWN.text,
    unity=Unity(),
    models={},
)


def verdict(shown: Reading = SHOWN, **changes: Any) -> tuple[str, tuple[str, ...]]:
    judged = judge(replace(GOOD, **changes), shown)
    return judged.verdict, judged.reasons


def test_the_text_as_shown_is_accepted() -> None:
    assert verdict() == ("accepted", ())
    assert verdict(transcript=SHOWN.text.upper().replace(",", "")) == ("accepted", ())


@pytest.mark.parametrize("language", languages())
def test_every_language_accepts_its_own_words_and_not_anothers(language: str) -> None:
    words = draw_words(language, TERMS)
    shown = compose(language, TERMS, words)
    assert verdict(shown, transcript=shown.text)[0] == "accepted"
    others = compose(language, TERMS, tuple(reversed(words)))
    assert verdict(shown, transcript=others.text) == ("again", ("words_missing",))


@pytest.mark.parametrize(
    ("changes", "reason", "outcome"),
    [
        ({"ours": True}, "recording_is_generated", "refused"),
        ({"speech_seconds": 5.9}, "too_little_speech", "again"),
        ({"unity": Unity(stretch=None)}, "too_little_speech", "again"),
        ({"level_db": -41.0}, "too_quiet", "again"),
        ({"clipped": 0.02}, "clipped", "again"),
        ({"snr_db": 4.0}, "too_noisy", "again"),
        ({"unity": Unity(stretch=THRESHOLDS.other_speaker - 0.001)}, "two_speakers", "refused"),
        ({"unity": Unity(stretch=THRESHOLDS.least_words_likeness - 0.001)}, DOUBT, "accepted"),
        ({"unity": Unity(window=THRESHOLDS.least_window_likeness - 0.001)}, DOUBT, "accepted"),
        ({"unity": Unity(halves=THRESHOLDS.least_halves_likeness - 0.001)}, DOUBT, "accepted"),
    ],
)
def test_each_way_to_fail_has_its_reason_in_plain_words(changes: dict[str, Any], reason: str, outcome: str) -> None:
    assert verdict(**changes) == (outcome, (reason,))
    assert REASONS[reason].endswith(".")


def test_an_earlier_recording_does_not_pass_again() -> None:
    """Replayed: the sentence is right, the words are those of another day."""
    earlier = compose("en", TERMS, ("candle", "circle", "button", "cheese"))
    assert verdict(transcript=earlier.text) == ("again", ("words_missing",))
    # Words that were not found have no place that could be compared: that is no second reason.
    assert verdict(transcript=earlier.text, unity=Unity(stretch=None)) == ("again", ("words_missing",))


def test_the_words_alone_are_no_consent() -> None:
    assert verdict(transcript="apple bridge carpet window")[0] == "refused"
    assert verdict(transcript="")[0] == "refused"


def test_a_word_within_another_is_not_the_word() -> None:
    assert words_heard("my words today are pineapple bridge carpet window", SHOWN) == 0
    assert words_heard("my words today are apple bridge window carpet", SHOWN) == 3


@pytest.mark.parametrize("language", languages())
def test_the_place_of_the_words_is_found_in_every_language(language: str) -> None:
    """Letter by letter, as whisper cuts some languages: from the first letter of the first word to the last's end."""
    shown = compose(language, TERMS, draw_words(language, TERMS))
    pieces = [Piece(letter, place, place + 1) for place, letter in enumerate(shown.text)]
    if language not in ("zh", "ja", "ko"):  # as it cuts the others
        ends = [place for place, letter in enumerate(shown.text) if letter == " "]
        starts = [0, *(end + 1 for end in ends)]
        pieces = [Piece(shown.text[a:b], a, b) for a, b in zip(starts, [*ends, len(shown.text)], strict=True)]
    found = words_stretch(pieces, shown, 1)
    last = shown.text.rindex(shown.words[-1]) + len(shown.words[-1])
    assert found.start == shown.text.rindex(shown.words[0])
    assert last <= found.stop <= last + 2
    assert words_stretch(pieces[: len(pieces) // 2], shown, 1) == slice(0, 0)


@given(st.text("abc", max_size=12), st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_edit_distance_is_a_metric(one: str, two: str, three: str) -> None:
    assert edit_distance(one, two) == edit_distance(two, one)
    assert (edit_distance(one, two) == 0) == (one == two)
    assert edit_distance(one, three) <= edit_distance(one, two) + edit_distance(two, three)
    assert abs(len(one) - len(two)) <= edit_distance(one, two) <= max(len(one), len(two))

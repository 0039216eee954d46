"""Texts longer than the model says at once: cut where a reader pauses, joined without a click, nothing left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workers.house import House
from tests.workers.test_jobs import detection, served

from vivavoce.ledger.tables import JobStatus
from vivavoce.sound import decode
from vivavoce.workers.jobs import JobRunner
from vivavoce.workers.long_text import EDGE_SECONDS, PART_CHARACTERS, PAUSE_SECONDS, Joiner, parts

SENTENCE = "He was not an ill-disposed young man, unless to be rather cold hearted is to be ill-disposed."
RATE = 24_000


def test_a_short_text_is_one_part_and_a_long_one_ends_with_sentences() -> None:
    assert parts(f" {SENTENCE}\n") == [SENTENCE]
    assert parts(" ".join([SENTENCE] * 5)) == [f"{SENTENCE} {SENTENCE}"] * 2 + [SENTENCE]
    assert parts("") == parts("  ") == []


def test_a_sentence_that_is_too_long_is_cut_at_a_comma_and_else_between_words() -> None:
    clause = "and so they went on through the rain until evening"
    first, *rest = parts(", ".join([clause] * 6) + ".")
    assert first.endswith(",") and rest
    assert all(part.split()[0] in ("word", "words") for part in parts("word words " * 60))


def test_text_without_spaces_is_cut_too() -> None:
    sentence = "他并不是一个心地不好的年轻人。"
    found = parts(sentence * 30)
    assert "".join(found) == sentence * 30
    assert all(len(part) <= PART_CHARACTERS and part.endswith("。") for part in found)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab ,.!?;。，\n", max_size=1500))
def test_nothing_is_lost_and_no_part_is_too_long(text: str) -> None:
    found = parts(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(part) <= PART_CHARACTERS for part in found)


@pytest.mark.parametrize("size", [1, 37, 5000])
def test_a_join_has_no_step(size: int) -> None:
    """Two tones that end and begin at their loudest: whatever the pieces, no sample is far from the one before."""
    tone = np.cos(2 * np.pi * 200 * np.arange(6000) / RATE).astype(np.float32)
    joiner, heard = Joiner(RATE), []
    for part in range(2):
        heard += [joiner.next_part()] if part else []
        heard += [joiner.feed(tone[first : first + size]) for first in range(0, len(tone), size)]
    whole = np.concatenate((*heard, joiner.finish()))
    assert len(whole) == 2 * len(tone) + round(PAUSE_SECONDS * RATE)
    assert np.abs(np.diff(whole)).max() < 1.2 * np.abs(np.diff(tone)).max()
    edge = round(EDGE_SECONDS * RATE)
    assert np.array_equal(whole[: len(tone) - edge], tone[:-edge])
    assert np.array_equal(whole[-len(tone) + edge :], tone[edge:])


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_text_is_said_to_its_end(house: House, runner: JobRunner, stream: bool) -> None:
    """Three parts: the sound is about three times as long as one of them, and carries one mark."""
    lengths = {}
    for count in (1, 5):
        job_id = house.queue(
            request={"text": " ".join([SENTENCE] * count), "seed": 4} | ({"stream": True} if stream else {})
        )
        runner.run(job_id)
        house.check_one_end(job_id, JobStatus.SUCCEEDED)
        lengths[count] = decode(served(house, job_id).data).seconds
    assert lengths[5] > lengths[1] + 3 * 93 / 30  # nobody says 30 letters a second
    output = house.output(job_id)
    found = house.job(detection(house, runner, served(house, job_id).data)).result
    assert output is not None and found is not None and found["verdict"] == "ours"
    assert found["resolution"]["identity"] == output.mark_identity

"""The voices that `benchmarks.voice` takes out of a corpus, and how it counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from benchmarks.voice.__main__ import tables
from benchmarks.voice.measures import word_errors
from benchmarks.voice.run import KINDS, Row
from benchmarks.voice.speakers import REFERENCE_SECONDS, Speaker, another, spread, synthetic

RATE = 8_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Clips as `vivavoce data synth` writes them, each a tone that tells it from the others."""
    clips = [
        ("000000a", "bf_lily*0.9", "one", 2.0, "held out"),
        ("000001a", "bf_lily*0.9", "two", 4.0, "held out"),
        ("000002a", "am_liam*1.0", "same", 4.0, "held out"),
        ("000003a", "am_liam*1.0", "same", 4.0, "held out"),
        ("000004a", "bm_lewis*1.0", "short", 2.0, "held out"),
        ("000005a", "bm_lewis*1.0", "shorter", 1.0, "held out"),
        ("000006a", "am_adam*1.0", "taught", 4.0, "train"),
        ("000007a", "am_adam*1.0", "also taught", 4.0, "train"),
    ]
    (tmp_path / "audio").mkdir()
    with (tmp_path / "manifest.jsonl").open("w") as file:
        for level, (name, speaker, text, seconds, split) in enumerate(clips, 1):
            soundfile.write(tmp_path / f"audio/{name}.flac", np.full(round(seconds * RATE), level / 16), RATE)
            line = {"id": name, "speaker": speaker, "text": text, "seconds": seconds, "split": split}
            file.write(json.dumps(line) + "\n")
    return tmp_path


def test_only_unseen_voices_that_say_two_things_are_measured(corpus: Path) -> None:
    (lily,) = synthetic(corpus)
    assert (lily.name, lily.said, lily.groups) == ("bf_lily*0.9", "one", ("female", "British"))
    assert lily.reference.seconds == REFERENCE_SECONDS
    assert lily.reference.samples[0] == pytest.approx(2 / 16)
    assert lily.rest.samples[0] == pytest.approx(1 / 16)


def test_few_voices_are_taken_from_everywhere(corpus: Path) -> None:
    (lily,) = synthetic(corpus)
    voices = [Speaker(str(number), lily.reference, lily.rest) for number in range(10)]
    assert [one.name for one in spread(voices, 4)] == ["0", "3", "6", "9"]
    assert spread(voices, 20) == voices


def test_a_warped_copy_is_no_stranger(corpus: Path) -> None:
    (lily,) = synthetic(corpus)
    names = "af_sky*0.9", "af_sky*1.0", "am_liam*1.0"
    voices = [Speaker(name, lily.reference, lily.rest) for name in names]
    assert [another(voices, number, 1) for number in range(3)] == [2, 2, 0]
    assert [another(voices, number, -1) for number in range(3)] == [2, 2, 1]
    assert another(voices[:2], 0, 1) == 0


def test_a_sound_is_at_most_all_wrong() -> None:
    assert word_errors("Turn left, please.", "turn LEFT please") == (0, 3)
    assert word_errors("Turn left, please.", "turn right please") == (1, 3)
    assert word_errors("Turn left, please.", "no " * 50) == (3, 3)


def test_every_group_counts_its_own_speakers(corpus: Path) -> None:
    (lily,) = synthetic(corpus)
    liam = Speaker("am_liam*1.0", lily.reference, lily.rest, "one", ("male", "American"))
    measured = []
    for wrong in (1, 3):
        rows = {kind: Row() for kind in KINDS}
        rows["speech"] = Row(errors=[(wrong, 4)], alike=[0.5])
        measured.append(rows)
    text = list(tables([lily, liam], measured))
    found = dict(zip(text[1::2], text[2::2], strict=True))
    assert "50.0%" in text[0]
    assert "25.0%" in found["### Female voices (1)"]
    assert "75.0%" in found["### Male voices (1)"]

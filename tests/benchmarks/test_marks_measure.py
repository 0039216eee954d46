"""What the benchmark counts: shares, thresholds, clips, splices, registered identities; and real jobs end to end."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from benchmarks.marks.bar import Demand, demands
from benchmarks.marks.clips import Clip, clips_of, cuts, speaker_of, spoken
from benchmarks.marks.edits import EDITS
from benchmarks.marks.measure import Bench, identity_of, place_of
from benchmarks.marks.picture import picture
from benchmarks.marks.plan import Job, Plan
from benchmarks.marks.registry import Registry, decoded_bits, named
from benchmarks.marks.report import report
from benchmarks.marks.results import Results
from benchmarks.marks.run import OtherRun, run
from benchmarks.marks.splices import border_errors, overlap
from benchmarks.marks.stats import Share, threshold_at
from benchmarks.marks.systems import OURS, SECRET
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.sound import SPEECH_RATE
from vivavoce.watermark import Code, Reading, Segment

SPEECH = Path(__file__).parents[1] / "data/speech"


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return clips_of([SPEECH], [], per_speaker=4)


@pytest.fixture
def plan(clips: list[Clip], tmp_path: Path) -> Plan:
    return Plan(tuple(clips), (OURS,), tmp_path, None, splices=1)


def test_wilson_agrees_with_published_figures() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert Share(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert Share(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert Share(0, 0).interval == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 0.5))
def test_no_more_than_the_rate_lies_above_a_threshold(scores: list[float], rate: float) -> None:
    least = threshold_at(scores, rate)
    assert sum(score > least for score in scores) <= rate * len(scores)


def test_clips_are_whole_and_of_named_speakers(clips: list[Clip]) -> None:
    assert [clip.speaker for clip in clips] == ["goforward", "librivox-austen", "librivox-austen"]
    assert len({clip.name for clip in clips}) == len(clips)
    assert all(len(clip.samples) == 10 * SPEECH_RATE for clip in clips)
    assert len(clips_of([SPEECH], [], per_speaker=1)) == 2


def test_speakers_are_known_by_where_their_files_lie() -> None:
    prompts = Path("/x/usr/share/asterisk/sounds")
    allison = {speaker_of(prompts / voice / "digits/1.g722") for voice in ("en_US_f_Allison", "es_MX_f_Allison")}
    assert allison == {("Asterisk prompts", "Allison")}
    assert speaker_of(Path("/x/clean/103-1240-0000.flac")) == ("LibriSpeech", "103")
    assert speaker_of(Path("/x/mine/take 3.wav")) == ("mine", "mine")


def test_raw_telephone_prompts_are_read(tmp_path: Path) -> None:
    """G.722 has no header; its 64 kbit/s are 16 kHz, so that a byte is two samples."""
    folder = tmp_path / "sounds" / "en_US_f_Somebody"
    folder.mkdir(parents=True)
    (folder / "prompt.g722").write_bytes(np.random.default_rng(0).bytes(8_000 * 11))
    (clip,) = clips_of([tmp_path], [], per_speaker=4)
    assert (clip.speaker, len(clip.samples)) == ("Somebody", 10 * SPEECH_RATE)


def test_only_held_out_files_are_taken_of_what_training_was_given(tmp_path: Path, clips: list[Clip]) -> None:
    for number in range(40):
        soundfile.write(tmp_path / f"{number}-1-1.wav", clips[-1].samples[: 3 * SPEECH_RATE], SPEECH_RATE)
    all_of_them, held_out = clips_of([tmp_path], [], 1), clips_of([], [tmp_path], 1)
    assert len(all_of_them) == 40
    assert 0 < len(held_out) < 12


def test_beeps_and_pauses_are_no_speech(clips: list[Clip]) -> None:
    times = np.arange(2 * SPEECH_RATE) / SPEECH_RATE
    beep = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    assert not spoken(beep)
    assert not spoken(np.zeros(2 * SPEECH_RATE, dtype=np.float32))
    assert not spoken(clips[-1].samples[: SPEECH_RATE // 2])
    assert spoken(clips[-1].samples)
    assert list(cuts([beep, beep, beep, beep, beep, beep], 1)) == []


def test_cuts_are_where_speech_is(clips: list[Clip]) -> None:
    half = clips[-1].samples.copy()
    half[: len(half) // 2] = 0
    clip = Clip("half", "somebody", "somewhere", half)
    assert all(place_of(clip, edit.name, 1) * 9 > 4 for edit in EDITS)
    assert len({place_of(clip, edit.name, 1) for edit in EDITS}) > len(EDITS) // 2


def test_overlap_and_borders() -> None:
    seen = (Segment(3.0, 6.0),)
    assert overlap(seen, ((3.0, 6.0),), 12.0) == 1.0
    assert overlap(seen, ((0.0, 3.0), (6.0, 12.0)), 12.0) == 0.0
    assert overlap((Segment(3.0, 4.5),), ((3.0, 6.0),), 12.0) == pytest.approx(0.5, abs=1e-3)
    assert overlap((), ((3.0, 6.0),), 12.0) == 0.0
    assert border_errors((Segment(3.1, 5.8),), (3.0, 6.0)) == pytest.approx([0.1, 0.2])
    assert border_errors((), (3.0, 6.0)) == [None, None]


def test_the_registry_names_what_the_code_names() -> None:
    """The kept codewords give the code's own numbers; noise names nobody, and half a codeword is decoded to its own."""
    registry, code, own = Registry(SECRET, 3_000), Code(SECRET), 123_456_789
    rng = np.random.default_rng(1)
    clean = (2.0 * code.bits(own) - 1).astype(np.float32)
    for noise in (0.5, 3.0, 6.0):
        reading = Reading((clean + noise * rng.standard_normal(512)).astype(np.float32))
        mine = registry._code.agreement(reading, registry._others)
        np.testing.assert_allclose(mine, code.agreement(reading, registry._others), atol=1e-4)
        np.testing.assert_array_equal(registry._code.agreement(reading, registry._others[700:900]), mine[700:900])
        others = [registry._others, np.array([own], dtype=np.uint64)]
        assert (
            registry.resolve(reading, own).candidates[0].identity
            == code.resolve(reading, others).candidates[0].identity
        )
    half = Reading(np.where(rng.random(512) < 0.5, clean, 0).astype(np.float32))
    resolution = registry.resolve(half, own)
    assert (named(resolution, own), decoded_bits(resolution, own)) == ("own", 1.0)
    assert registry.right_code_bits(half, own) == 1.0
    assert registry.right_code_bits(Reading(-clean), own) == 0.0
    assert registry.right_code_bits(None, own) == 0.5
    noise = registry.resolve(Reading(rng.standard_normal(512).astype(np.float32)), own)
    assert named(noise, own) == "none"
    assert 0.2 < decoded_bits(noise, own) < 0.9
    assert named(registry.resolve(Reading(clean), None), None) == "none"
    assert (registry.whose(half, [7, own]), registry.whose(Reading(clean), [7])) == (own, None)
    assert decoded_bits(None, own) == 0.5


def test_a_real_clip_is_found_where_it_is_marked_and_nowhere_else(plan: Plan) -> None:
    bench = Bench(plan)
    rows = bench.run(Job("edit", 0, "MP3 64 kbit/s"))
    marked = {row["seconds"]: row for row in rows if row["marked"]}
    assert set(marked) == {1, 3, 10}
    assert marked[10]["found"]
    assert marked[10]["resolved"] == "own"
    assert marked[10]["code_bits"] > 0.7
    unmarked = [row for row in rows if not row["marked"]]
    assert unmarked
    assert not any(row["found"] for row in unmarked)
    (sounds,) = bench.run(Job("quality", 0))
    assert sounds["si_snr"] > 10
    spliced = bench.run(Job("splice", 0, "none"))
    assert [(row["inside"], row["registry"]) for row in spliced] == [
        (i, r) for i in ("marked", "unmarked") for r in (0, 1)
    ]
    assert spliced[0]["iou"] > 0.8
    assert spliced[1]["iou"] > 0.8
    assert bench.run(Job("edit", 0, "MP3 64 kbit/s")) == rows
    assert identity_of(plan.clips[0]) != identity_of(plan.clips[1])


def test_a_run_goes_on_where_it_was_killed(plan: Plan) -> None:
    """Finished jobs are not done again, a line that was cut short is; and another run's folder is left alone."""
    jobs = plan.jobs()
    records = plan.folder / "records.jsonl"
    lines = [json.dumps({"job": job.key, "rows": []}) for job in jobs if job != jobs[1]]
    records.write_text("\n".join([*lines, json.dumps({"job": jobs[1].key, "rows": [{"half": 1}]})[:-7]]))
    run(plan, processes=1)
    done = [json.loads(line) for line in records.read_text().splitlines()]
    assert sorted(line["job"] for line in done) == sorted(job.key for job in jobs)
    (again,) = [line for line in done if line["job"] == jobs[1].key]
    assert again["rows"][0]["clip"] == plan.clips[jobs[1].clip].name
    other = Plan(plan.clips[:1], plan.systems, plan.folder, None, 1)
    with pytest.raises(OtherRun):
        run(other, processes=1)


def test_what_is_missed_is_said() -> None:
    assert Demand("x", 0.98, 1.0, 0.97).verdict == "**below the bar**"
    assert Demand("x", 0.98, 1.0, 0.98).verdict == "met"
    assert Demand("x", 0.98, 1.0, 1.0).verdict == "aim reached"
    assert Demand("x", None, 0.9, 0.1).verdict == "published, below the aim"
    assert Demand("x", 0.15, 0.05, 0.2, lower=True).verdict == "**below the bar**"
    assert Demand("x", 0.98, 1.0, float("nan")).verdict == "not measured"


def test_the_report_and_its_picture_say_what_was_recorded(tmp_path: Path) -> None:
    """One clip found after MP3 and lost after GSM: both in the tables, the second below the bar."""

    def seen(edit: str, seconds: int, *, marked: bool, found: bool) -> dict[str, object]:
        named_as = "own" if found else "none"
        row = {"system": OURS, "marked": marked, "clip": "a-0", "edit": edit, "seconds": seconds}
        bits = {"code_bits": 0.875, "bits": 1.0} if marked else {"code_bits": None, "bits": None}
        return {**row, **bits, "score": 9.5 * found, "found": found, "verdict": "", "resolved": named_as}

    rows = [
        seen(edit, seconds, marked=marked, found=marked and edit != "GSM 8 kHz")
        for edit in ("MP3 64 kbit/s", "GSM 8 kHz")
        for seconds in (1, 3, 10)
        for marked in (True, False)
    ]
    quality = {"system": OURS, "clip": "a-0", "si_snr": 21.5, "pesq": None, "stoi": None}
    lines = [{"job": "edit/0/x", "rows": rows}, {"job": "quality/0/", "rows": [quality]}]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {
        "model": "marks-x",
        "digest": "0",
        "threshold": 3.0,
        "systems": [OURS],
        "clips": [["a-0", "a", "home"]],
        "edits": ["MP3 64 kbit/s", "GSM 8 kHz", "none"],
    }
    results = Results(tmp_path, about)
    verdicts = {row.what: row.verdict for row in demands(results)}
    assert verdicts["found: MP3 64 kbit/s"] == "aim reached"
    assert verdicts["found: GSM 8 kHz"] == "**below the bar**"
    assert verdicts["code bits, before decoding: MP3 64 kbit/s"] == "**below the bar**"
    assert verdicts["PESQ-WB, mean"] == "not measured"
    text = report(results, "python -m benchmarks.marks")
    assert "| GSM 8 kHz | 0.00 (0.00-0.79) | 0.00 (0.00-0.79) | 0.00 (0.00-0.79) |" in text
    assert "| MP3 64 kbit/s | 0.875 | 0.875 | 0.875 | 1.000 | 1.000 | 1.000 |" in text
    assert "2 of its 3 pairs of a clip and an edit are on record" in text
    assert "| home | 1 | 0.50 (0.09-0.91) | 0.50 (0.09-0.91) | 0.50 (0.09-0.91) |" in text
    drawn = ElementTree.fromstring(picture(results))
    words = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("1.00") == 3
    assert words.count("0.00") == 3

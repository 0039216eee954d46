"""Promise 2's ground: the shipped mark is found in every format that is served, and nowhere else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce.model import AudioTokenizer
from vivavoce.model.voice_model import default_folder
from vivavoce.sound import SPEECH_RATE, decode, encode, resample
from vivavoce.watermark import Detection, Marker, MarkError
from vivavoce.watermark import marker as marker_module
from vivavoce.watermark.networks import Networks, NetworkSize
from vivavoce.watermark.weights import SHIPPED, Settings, save

SPEECH = Path(__file__).parents[1] / "data/speech"
FORMS = ["none", "wav", "flac", "mp3", "opus", "aac"]
MESSAGE = 0b1010_0110_0101_1001


def speech(name: str) -> np.ndarray:
    sound = decode((SPEECH / name).read_bytes())
    return resample(sound.samples, sound.sample_rate, SPEECH_RATE)


CLIPS = {path.stem: speech(path.name) for path in sorted(SPEECH.glob("*.flac"))}


@pytest.fixture(scope="module")
def marker() -> Marker:
    torch.set_num_threads(1)
    return Marker.load()


def heard(marker: Marker, samples: np.ndarray, form: str) -> Detection:
    """What the detector says about the file as it would be served."""
    if form == "none":
        return marker.detect(samples, SPEECH_RATE)
    sound = decode(encode(samples, SPEECH_RATE, form))
    return marker.detect(sound.samples, sound.sample_rate)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CLIPS)
def test_the_mark_is_found_in_every_format_and_only_where_it_is(marker: Marker, name: str, form: str) -> None:
    clip = CLIPS[name]
    marked = heard(marker, marker.embed(clip, SPEECH_RATE, MESSAGE), form)
    assert marked.found
    assert marked.score >= marked.threshold == marker.threshold
    assert marked.message is not None
    unmarked = heard(marker, clip, form)
    assert not unmarked.found
    assert unmarked.message is None
    assert unmarked.segments == ()


@pytest.mark.parametrize("form", FORMS)
def test_generated_speech_is_told_apart_too(marker: Marker, form: str) -> None:
    """What our own model makes sounds duller than a recording; unmarked, it must not pass for marked."""
    tokenizer = AudioTokenizer.from_pretrained(default_folder() / "tokenizer")
    for name in ("austen-0880", "goforward"):
        clip = tokenizer.decode(tokenizer.encode(torch.from_numpy(CLIPS[name]), SPEECH_RATE)).numpy()
        assert tokenizer.sample_rate == SPEECH_RATE
        assert not heard(marker, clip, form).found
        assert heard(marker, marker.embed(clip, SPEECH_RATE, MESSAGE), form).found


def noises() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    time = np.arange(4 * SPEECH_RATE) / SPEECH_RATE
    white = rng.standard_normal(len(time))
    return {
        "white noise": 0.1 * white,
        "brown noise": 0.01 * np.cumsum(white) / 10,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "buzz of 50 Hz": 0.05 * sum(np.sin(2 * np.pi * 50 * k * time) for k in range(1, 100)),
        "clicks": (rng.random(len(time)) > 0.999).astype(float),
        "sweep": 0.3 * np.sin(2 * np.pi * (50 + 900 * time) * time),
        "square": 0.2 * np.sign(np.sin(2 * np.pi * 200 * time)),
    }


@pytest.mark.parametrize("name", noises())
def test_nothing_is_found_in_what_is_no_speech(marker: Marker, name: str) -> None:
    detection = marker.detect(noises()[name].astype(np.float32), SPEECH_RATE)
    assert not detection.found, detection.score


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_any_sample_rate(marker: Marker, rate: int) -> None:
    clip = resample(CLIPS["austen-0870"], SPEECH_RATE, rate)
    marked = marker.embed(clip, rate, MESSAGE)
    assert len(marked) == len(clip)
    assert marked.dtype == np.float32
    assert marker.detect(marked, rate).found
    assert marker.detect(resample(marked, rate, SPEECH_RATE), SPEECH_RATE).found
    assert not marker.detect(clip, rate).found


def test_the_level_is_the_one_that_the_weights_state(marker: Marker) -> None:
    stated = json.loads((SHIPPED / "config.json").read_text())["level_db"]
    for clip in CLIPS.values():
        mark = marker.embed(clip, SPEECH_RATE, MESSAGE) - clip
        assert 10 * np.log10(np.sum(clip**2) / np.sum(mark**2)) == pytest.approx(stated, abs=2)


def test_above_8_khz_the_sound_stays_as_it_was(marker: Marker) -> None:
    clip = CLIPS["austen-0870"] + np.random.default_rng(1).standard_normal(len(CLIPS["austen-0870"])).astype("f4") / 50
    mark = marker.embed(clip, SPEECH_RATE, MESSAGE) - clip
    power = np.abs(np.fft.rfft(mark)) ** 2
    above = np.fft.rfftfreq(len(mark), 1 / SPEECH_RATE) > 8_200
    assert power[above].sum() < 1e-6 * power.sum()


def test_strength_scales_the_mark_and_nothing_else(marker: Marker) -> None:
    clip = CLIPS["goforward"]
    once, twice = (marker.embed(clip, SPEECH_RATE, MESSAGE, strength) - clip for strength in (1.0, 2.0))
    np.testing.assert_allclose(twice, 2 * once, atol=1e-5)
    np.testing.assert_array_equal(marker.embed(clip, SPEECH_RATE, MESSAGE, 0.0), clip)


def test_equal_questions_get_equal_answers(marker: Marker) -> None:
    clip = CLIPS["goforward"]
    other = Marker.load()
    marked = marker.embed(clip, SPEECH_RATE, MESSAGE)
    np.testing.assert_array_equal(other.embed(clip, SPEECH_RATE, MESSAGE), marked)
    assert other.detect(marked, SPEECH_RATE) == marker.detect(marked, SPEECH_RATE)


def test_blocks_cannot_be_told_from_the_whole(marker: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.concatenate(list(CLIPS.values()))[: 23 * SPEECH_RATE]
    marked = marker.embed(clip, SPEECH_RATE, MESSAGE)
    detection = marker.detect(marked, SPEECH_RATE)
    monkeypatch.setattr(marker_module, "BLOCK", 100 * 16_000)
    np.testing.assert_allclose(marker.embed(clip, SPEECH_RATE, MESSAGE), marked, atol=1e-4)
    whole = marker.detect(marked, SPEECH_RATE)
    assert whole.score == pytest.approx(detection.score, abs=1e-4)
    assert whole.message == detection.message


def test_a_marked_stretch_is_found_where_it_is(marker: Marker) -> None:
    before, inside, after = CLIPS["austen-0870"], CLIPS["austen-0920"], CLIPS["austen-0890"]
    spliced = np.concatenate([before, marker.embed(inside, SPEECH_RATE, MESSAGE), after])
    start, end = len(before) / SPEECH_RATE, (len(before) + len(inside)) / SPEECH_RATE
    detection = marker.detect(spliced, SPEECH_RATE)
    assert detection.found
    told = np.zeros(int(len(spliced) / SPEECH_RATE * 100) + 1, dtype=bool)
    for segment in detection.segments:
        told[int(segment.start_s * 100) : int(segment.end_s * 100)] = True
    true = np.zeros_like(told)
    true[int(start * 100) : int(end * 100)] = True
    assert (told & true).sum() / (told | true).sum() > 0.6


@pytest.mark.parametrize(
    ("samples", "rate", "message", "code"),
    [
        (np.full(int(0.49 * SPEECH_RATE), 0.1), SPEECH_RATE, 0, "too_short"),
        (np.zeros(0), SPEECH_RATE, 0, "too_short"),
        (np.zeros(SPEECH_RATE), SPEECH_RATE, 0, "silent"),
        (np.full(SPEECH_RATE, 5e-4), SPEECH_RATE, 0, "silent"),
        (np.full(SPEECH_RATE, np.nan), SPEECH_RATE, 0, "bad_samples"),
        (np.full((SPEECH_RATE, 2), 0.1), SPEECH_RATE, 0, "bad_samples"),
        (np.full(SPEECH_RATE, 0.1), 4_000, 0, "bad_samples"),
        (np.full(SPEECH_RATE, 0.1), SPEECH_RATE, -1, "bad_message"),
        (np.full(SPEECH_RATE, 0.1), SPEECH_RATE, 1 << 16, "bad_message"),
    ],
)
def test_what_cannot_carry_a_mark_is_refused(
    marker: Marker, samples: np.ndarray, rate: int, message: int, code: str
) -> None:
    with pytest.raises(MarkError) as caught:
        marker.embed(samples.astype(np.float32), rate, message)
    assert caught.value.code == code


@pytest.mark.parametrize("samples", [np.zeros(0), np.full(100, 0.3), np.zeros(5 * SPEECH_RATE)])
def test_nothing_is_said_about_silence_and_scraps(marker: Marker, samples: np.ndarray) -> None:
    detection = marker.detect(samples.astype(np.float32), SPEECH_RATE)
    assert (detection.found, detection.score, detection.message) == (False, 0.0, None)


SMALL = NetworkSize(nbits=4, n_filters=4, dimension=8)


def broken(folder: Path, how: str) -> Path:
    """A folder of weights with one thing wrong."""
    save(folder, Networks(SMALL), Settings("small", SMALL, 20.0, 0.5, {}))
    Marker.load(folder)
    config = json.loads((folder / "config.json").read_text())
    changed = {
        "rate": {**config, "sample_rate": 24_000},
        "threshold": {**config, "threshold": 0.0},
        "bits": {**config, "size": {**config["size"], "nbits": 5}},
        "name": {**config, "size": {**config["size"], "depth": 5}},
        "no size": {key: value for key, value in config.items() if key != "size"},
        "list": [1, 2],
    }
    if how in changed:
        (folder / "config.json").write_text(json.dumps(changed[how]))
    elif how == "text":
        (folder / "config.json").write_text("{")
    elif how == "not a number":
        networks = Networks(SMALL)
        torch.nn.init.constant_(networks.detector.detector[1].weight, torch.nan)
        save(folder, networks, Settings("small", SMALL, 20.0, 0.5, {}))
    elif how == "cut":
        data = (folder / "detector.safetensors").read_bytes()
        (folder / "detector.safetensors").write_bytes(data[: len(data) // 2])
    elif how == "swapped":
        (folder / "generator.safetensors").write_bytes((folder / "detector.safetensors").read_bytes())
    else:
        (folder / how).unlink()
    return folder


@pytest.mark.parametrize("how", ["config.json", "generator.safetensors", "detector.safetensors"])
def test_missing_weights_are_no_marker(tmp_path: Path, how: str) -> None:
    with pytest.raises(MarkError, match=how) as caught:
        Marker.load(broken(tmp_path, how))
    assert caught.value.code == "weights_missing"


@pytest.mark.parametrize(
    "how", ["rate", "threshold", "bits", "name", "no size", "list", "text", "not a number", "cut", "swapped"]
)
def test_broken_weights_are_no_marker(tmp_path: Path, how: str) -> None:
    with pytest.raises(MarkError) as caught:
        Marker.load(broken(tmp_path, how))
    assert caught.value.code == "weights_broken"


def test_no_folder_is_no_marker(tmp_path: Path) -> None:
    with pytest.raises(MarkError):
        Marker.load(tmp_path / "nowhere")

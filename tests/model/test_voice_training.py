"""Training of the language model: it teaches what generation does, and writes a folder that speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tests.model.tiny_lm import random_grid, tiny_lm

from vivavoce.model.grid import split_grid
from vivavoce.model.patch_lm import PatchLM
from vivavoce.model.sampling import GREEDY, Sampler
from vivavoce.model.script import Reading
from vivavoce.model.spoken import PAUSES, spoken
from vivavoce.model.training import voice
from vivavoce.model.training.clips import read_manifest
from vivavoce.model.training.loop import Loop, Plan
from vivavoce.model.training.phones import SLOTS, UNKNOWN
from vivavoce.model.training.rooms import rough
from vivavoce.model.training.voice_corpus import Corpus, _disguised, encode
from vivavoce.model.training.voice_examples import Example, phone_tokenizer
from vivavoce.model.voice_model import default_folder

SPEECH = Path(__file__).parents[1] / "data" / "speech"
TOKENIZER = default_folder() / "tokenizer"
SAID = "he might even have been made amiable himself"
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "local_dim": 64, "local_layers": 1, "local_attn_heads": 1, "local_ffn_dim": 128,
    "input_local_layers": 1, "input_local_dim": 64,
}  # fmt: skip
MINI = voice.mini_config((1024, 1024, *[128] * 6), phone_tokenizer().get_vocab_size())


@pytest.mark.parametrize("shape", ["base", "uneven delays", "no delay at all", "encoder wider than decoder"])
def test_the_patch_decoder_is_taught_what_it_does(shape: str) -> None:
    """Shown its own greedy patches, the taught logits choose exactly these again, in every delay pattern."""
    model = tiny_lm(shape)
    start = torch.randn(6, model.config.decoder.width, generator=torch.Generator().manual_seed(1))
    numbers = torch.zeros(6, model.config.group_size, model.config.channels, dtype=torch.float64)
    patches = model.decode_patches(start, Sampler([GREEDY] * 6, start.device), numbers)
    for channel, logits in enumerate(voice.taught_logits(model, start, patches)):
        logits[..., model.config.zero_ids[channel]] = -torch.inf
        assert torch.equal(logits.argmax(-1), patches[..., channel])


def test_padding_and_neighbours_change_no_loss() -> None:
    """The loss of two sequences of different lengths is the mean of their own, weighted by patches."""
    model = tiny_lm()
    examples = []
    for length, patches in ((2, 5), (40, 5)):
        groups = split_grid(random_grid(model, length, patches, length), model.config)
        unknown = torch.full((len(groups), SLOTS * model.config.group_size), UNKNOWN)
        examples.append(Example(groups, groups.text == model.special.empty, unknown))
    pupil = voice.Pupil(model)
    both = voice.batch_loss(pupil, examples)
    alone = [voice.batch_loss(pupil, [example]) for example in examples]
    for name, value in both.items():
        assert torch.allclose(value, sum(one[name] for one in alone) / 2, atol=1e-5), name


def test_every_spoken_token_has_an_id_and_comes_back() -> None:
    tokenizer = phone_tokenizer()
    for text in ("He might even have been amiable, himself!", "Xylophones: 23 of them?", "I'd rather not; thanks."):
        tokens = spoken(text)
        found = tokenizer.encode("".join(tokens))
        assert found.tokens == tokens
    with pytest.raises(Exception, match="can be spoken"):
        spoken("…")


def test_a_reading_says_every_token_in_order_and_always_ends() -> None:
    """Whatever the model would rather do at each group."""
    reading = Reading((5, 6, 7, 8, 9), empty=0, most_patches=100)
    for favourite in ("text", "patch", "turns"):
        text: list[int] = []
        while not text or text[-1] != 9:
            open_ids = reading.open_ids(text)
            speaks = favourite == "patch" or (favourite == "turns" and len(text) % 2 == 0)
            text.append(0 if speaks and 0 in open_ids else next((one for one in open_ids if one), 0))
            assert len(text) <= reading.most_groups
        assert [one for one in text if one] == [5, 6, 7, 8, 9]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of two speakers, two of them a pair, out of the speech that ships, with the times of their phones."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "audio").mkdir()
    wave, rate = soundfile.read(SPEECH / "austen-0870.flac", dtype="float32")
    tokens, lines = spoken(SAID), []
    for index in range(10):
        piece = wave[index * 4000 : index * 4000 + 4 * rate].astype(np.float32)
        soundfile.write(folder / "audio" / f"clip{index}.flac", piece, rate)
        starts = np.linspace(100, 3800, len(tokens)).astype(int).tolist()
        line: dict[str, Any] = {"id": f"clip{index}", "text": SAID, "tokens": tokens, "starts": starts}
        split = "held out" if index > 7 else "train"
        lines.append(line | {"speaker": f"s{index % 2}", "seconds": 4.0, "split": split})
    lines[0]["pair"], lines[1]["pair"] = "clip1", "clip0"
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    # as they are, warped, in a room, and in disguise
    assert encode(folder, TOKENIZER, warped=True, in_rooms=True) == 10 + 8 + 8 + 8
    return folder


def task(data: Path, stage: int = 2) -> voice.Speaking:
    recipe = voice.Recipe((data,), TOKENIZER, rows=3, bf16=False, stage=stage)
    return voice.Speaking(recipe, MINI | SMALL)


def test_held_out_clips_and_copies_are_kept_apart(data: Path) -> None:
    corpus = Corpus(data, TOKENIZER)
    taught, held_out = ({clip.name for clip in clips} for clips in (corpus.taught, corpus.held_out))
    assert held_out == {"clip8", "clip9", "clip8^", "clip9^"} and "clip3~" in taught and not taught & held_out
    with pytest.raises(FileNotFoundError, match="encode"):
        Corpus(data.parent, TOKENIZER)


def test_clips_of_two_folders_with_the_same_name_keep_their_own_codes(data: Path, tmp_path: Path) -> None:
    """Every corpus that `data synth` makes begins with 000000a."""
    (tmp_path / "audio").mkdir()
    lines = read_manifest(data / "manifest.jsonl")[:2]
    for line in lines:
        wave, rate = soundfile.read(data / "audio" / f"{line['id']}.flac", dtype="float32")
        soundfile.write(tmp_path / "audio" / f"{line['id']}.flac", wave[::-1], rate)
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    encode(tmp_path, TOKENIZER, warped=False, in_rooms=False)
    recipe = voice.Recipe((data, tmp_path), TOKENIZER, rows=3, bf16=False)
    first, second = voice.Speaking(recipe, MINI | SMALL).examples._clips
    shared = [(one, other) for one in first for other in second if one.name == other.name]
    assert len(shared) == 2
    for one, other in shared:
        assert not torch.equal(one.codes(), other.codes())
        assert torch.equal(other.codes(), Corpus(tmp_path, TOKENIZER).codes(other.name))


def test_a_disguise_says_the_same_at_the_same_time_and_is_never_taught(data: Path) -> None:
    """Another voice to go from: its sound differs, its loudness rises and falls with that of the recording."""
    corpus = Corpus(data, TOKENIZER)
    masks = [clip for clip in corpus.taught if clip.disguise]
    assert len(masks) == 6
    examples = task(data).examples
    assert not any(clip.disguise for clips in examples._clips for clip in clips)
    pairs = {target.name: source.name for found in examples._pairs for source, target in found}
    assert {mask.name.removesuffix("^"): mask.name for mask in masks}.items() <= pairs.items()
    wave, rate = soundfile.read(data / "audio" / "clip4.flac", dtype="float32")
    disguised = _disguised(wave, rate, "clip4")
    count = min(len(wave), len(disguised)) // 800
    loudness = [np.square(one[: 800 * count]).reshape(count, 800).mean(1) for one in (wave, disguised)]
    assert abs(len(wave) - len(disguised)) < 0.06 * rate
    assert np.corrcoef(np.log(loudness[0] + 1e-6), np.log(loudness[1] + 1e-6))[0, 1] > 0.8
    bands = [np.abs(np.fft.rfft(one)) for one in (wave, disguised)]
    centres = [float((band * np.linspace(0, rate / 2, len(band))).sum() / band.sum()) for band in bands]
    assert abs(centres[1] / centres[0] - 1) > 0.05


def test_a_run_learns_goes_on_exactly_and_its_folder_loads(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    plan = Plan(16, rate=3e-3, warm_up=2, average=0.5)
    whole = Loop(task(data), plan, tmp_path / "whole")
    before = whole.task.evaluate(8)  # type: ignore[attr-defined]
    whole.run(lambda _: False)
    after = whole.task.evaluate(8)  # type: ignore[attr-defined]
    assert after["c0"] < before["c0"] - 0.2
    Loop(task(data), plan, tmp_path / "parts").run(lambda progress: progress.step >= 7)
    parts = Loop(task(data), plan, tmp_path / "parts")
    parts.run(lambda _: False)
    for name, value in whole.task.model.state_dict().items():
        assert torch.equal(value, parts.task.model.state_dict()[name]), name
    loaded = PatchLM.from_pretrained(tmp_path / "whole")
    for name, value in loaded.state_dict().items():
        assert torch.allclose(whole.average[f"lm.{name}"].float(), value.float(), atol=1e-3), name
    again = task(data)
    again.begin_with(tmp_path / "whole")
    assert torch.allclose(again.lm.lm_head.weight, loaded.lm_head.weight.float(), atol=1e-6)


def test_a_rough_copy_says_the_same_at_the_same_time_and_is_never_taught(data: Path) -> None:
    corpus = Corpus(data, TOKENIZER)
    clean = next(clip for clip in corpus.taught if clip.name == "clip4")
    assert clean.rough_codes().shape == clean.codes().shape and not torch.equal(clean.rough_codes(), clean.codes())
    assert not any("%" in clip.name for clip in (*corpus.taught, *corpus.held_out))
    masked = next(clip for clip in corpus.taught if clip.disguise)
    assert torch.equal(masked.rough_codes(), masked.codes())
    wave, rate = soundfile.read(data / "audio" / "clip4.flac", dtype="float32")
    heard = rough(wave, rate, np.random.default_rng(1))
    assert np.std(heard) == pytest.approx(np.std(wave), rel=0.01)
    like = [float(np.corrcoef(np.roll(heard, shift), wave)[0, 1]) for shift in (0, 400)]
    assert 0.4 < like[0] < 0.99 and abs(like[1]) < like[0] / 2, "it must begin with the direct sound"


def test_every_task_is_drawn_with_its_own_targets(data: Path) -> None:
    """What a transcription and a continuation hide from the loss is exactly what they are given."""
    speaking, random = task(data), np.random.default_rng(5)
    special, kinds = speaking.lm.special, set()
    for _ in range(120):
        example = speaking.examples.draw(random)
        taught, patches = example.target, example.groups.text == special.empty
        first = int(example.groups.text[0])
        if first != special.sosp:
            kinds.add("conversion" if not (taught & ~patches).any() else "cloned_speech")
        elif (taught & patches).any():
            kinds.add("continuation")
            assert example.groups.text[taught].tolist()[-1] == special.eostm
            assert example.groups.text[int(taught.nonzero()[0]) - 1] == special.sostm
        else:
            kinds.add("transcription")
            assert example.groups.text[taught].tolist()[-1] == special.eot
            assert (example.phones == UNKNOWN).all() and bool((patches & ~taught).any())
    assert kinds == {"cloned_speech", "conversion", "transcription", "continuation"}


def test_understanding_teaches_text_alone_and_learns(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    understanding = task(data, stage=1)
    drawing = list(understanding.lm.local_transformer.parameters())
    before, kept = understanding.evaluate(4)["words"], [one.clone() for one in drawing]
    Loop(understanding, Plan(12, rate=3e-3, warm_up=2, average=0.5), tmp_path).run(lambda _: False)
    assert set(understanding.evaluate(4)) == {"words"}
    assert understanding.evaluate(4)["words"] < before - 0.3
    assert all(torch.equal(one, other) for one, other in zip(drawing, kept, strict=True)), "the patch decoder has moved"


def test_what_generation_may_say_is_what_training_shows(data: Path) -> None:
    """Each example's answer is a way through its own reading: the rules of generation forbid nothing that is taught."""
    speaking, random = task(data), np.random.default_rng(3)
    empty, eot, eostm = (getattr(speaking.lm.special, name) for name in ("empty", "eot", "eostm"))
    readings = 0
    for _ in range(40):
        example = speaking.examples.draw(random)
        text = [int(one) for one in example.groups.text[example.target]]
        said = tuple(one for one in text if one != empty)
        if eot not in said or empty not in text:
            continue  # only a reading's text and pace are both the model's
        assert said[-1] == eostm and said[-2] == eot
        reading = Reading(said, empty, len(text))
        for place, one in enumerate(text):
            assert one in reading.open_ids(text[:place])
        readings += 1
    assert readings > 5
    assert all(mark in phone_tokenizer().get_vocab() for mark in PAUSES)

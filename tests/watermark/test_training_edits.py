"""Edits in the training loop: what they do to the sound they do to its truth, and gradients come through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vivavoce.watermark.level import FOLLOW, set_level, whitened
from vivavoce.watermark.networks import GROUP_FRAMES
from vivavoce.watermark.training import codecs, warps
from vivavoce.watermark.training.cuts import UNMARKED, Cuts, draw_masks, draw_messages, draw_starts, joined, spoken
from vivavoce.watermark.training.data import read_16k
from vivavoce.watermark.training.edits import EDITS, WARPS, Editor, noise
from vivavoce.watermark.training.losses import decoding, localisation

RATE = 16_000
SPEECH = sorted((Path(__file__).parents[1] / "data/speech").rglob("*.*"))


@pytest.fixture(scope="module")
def waves() -> Tensor:
    """float32[3, 1.28 s] of real speech."""
    torch.set_num_threads(1)
    clips = [read_16k(f)[8_000 : 8_000 + 20_480] for f in SPEECH if f.suffix in (".flac", ".wav", ".ogg", ".opus")]
    return torch.from_numpy(np.stack([c * 0.1 / c.std() for c in clips if len(c) == 20_480][:3]))


def clicks(at: int, samples: int = 20_480) -> Tensor:
    """Silence until `at`, then noise: a border that can be found again."""
    noise = 0.2 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    return noise * (torch.arange(samples) >= at)


def border(wave: Tensor) -> int:
    """Where the sound begins: the first sample after which the loudness of 4 ms is half of what it becomes."""
    power = wave.square().unfold(0, 64, 1).mean(dim=1)
    return int((power > power[-8_000:-1_000].median() / 2).nonzero()[0]) + 32


def cuts_of(waves: Tensor, marked_from: int = 0) -> Cuts:
    groups = torch.where(torch.arange(waves.shape[-1]) >= marked_from, 0, UNMARKED).repeat(len(waves), 1)
    readable = torch.ones(len(waves), dtype=torch.bool)
    return Cuts(waves, groups, torch.ones(len(waves), 1, 2, dtype=torch.int64), readable, ~readable)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_edit_keeps_the_shape_and_lets_the_gradient_through(edit, waves: Tensor) -> None:
    for seed in range(3):
        given = waves.clone().requires_grad_()
        edited = edit(given, np.random.default_rng(seed))
        assert edited.shape == waves.shape
        assert edited.isfinite().all()
        edited.square().sum().backward()
        assert given.grad is not None
        assert given.grad.isfinite().all()
        assert (given.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_edit_is_drawn_from_the_seed_alone(edit, waves: Tensor) -> None:
    once, again = (edit(waves, np.random.default_rng(5)) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)


@pytest.mark.parametrize(
    "edit", [edit for edit in EDITS if edit is not noise], ids=lambda edit: edit.__name__
)  # noise fills the silence
def test_every_edit_leaves_the_sound_where_it_was(edit) -> None:
    """The border between silence and sound stays within 2 ms: codecs' delays are taken out."""
    edited = edit(clicks(9_000), np.random.default_rng(3))[0]
    assert abs(border(edited) - 9_000) <= 0.002 * RATE + 32


@pytest.mark.parametrize("warp", WARPS, ids=lambda warp: warp.__name__)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_warp_moves_the_truth_with_the_sound(warp, seed: int) -> None:
    waves = clicks(9_000)
    cuts = cuts_of(waves, marked_from=9_000)
    warped = cuts.edited(*warp(waves, np.random.default_rng(seed)), readable=False)
    assert warped.groups.shape == warped.waves.shape
    begins = int((warped.groups[0] != UNMARKED).nonzero()[0])
    assert abs(border(warped.waves[0]) - begins) <= 0.012 * RATE  # a phase vocoder's windows smear by 16 ms either way
    assert not warped.readable.any()


@pytest.mark.parametrize("warp", WARPS, ids=lambda warp: warp.__name__)
def test_gradients_come_through_a_warp(warp, waves: Tensor) -> None:
    given = waves.clone().requires_grad_()
    warped, _ = warp(given, np.random.default_rng(2))
    warped.square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert (given.grad.abs().sum(dim=1) > 0).all()


def pitch_of(wave: Tensor) -> float:
    spectrum = torch.fft.rfft(wave[2_000:-2_000] * torch.hann_window(len(wave) - 4_000)).abs()
    return float(spectrum.argmax()) * RATE / (len(wave) - 4_000)


def test_speed_moves_pitch_and_pace_stretch_only_the_pace() -> None:
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(20_480) / RATE).unsqueeze(0)
    fast, pace = warps.resampled(tone, 1.25)
    assert fast.shape[-1] == pytest.approx(20_480 / 1.25, abs=64)
    assert pace == pytest.approx(1.25, rel=0.01)
    assert pitch_of(fast[0]) == pytest.approx(550, rel=0.01)
    long, pace = warps.stretched(tone, 0.8)
    assert long.shape[-1] == pytest.approx(20_480 / 0.8, abs=64)
    assert pitch_of(long[0]) == pytest.approx(440, rel=0.01)
    assert 0.5 < float(long[0].std() / tone[0].std()) < 1.1  # bins drift apart: a plain vocoder's phasiness


def test_straight_through_hears_what_the_codec_made_and_passes_the_gradient_on(waves: Tensor) -> None:
    given = waves.clone().requires_grad_()
    heard = codecs.straight_through(given, lambda flat: (flat * 0.5)[:-100])
    expected = (waves.reshape(-1) * 0.5).clone()
    expected[-100:] = 0
    torch.testing.assert_close(heard.detach().reshape(-1), expected)
    heard.sum().backward()
    torch.testing.assert_close(given.grad, torch.ones_like(waves))


def test_codecs_are_lossy_but_recognisable(waves: Tensor) -> None:
    for codec in (codecs.mp3, codecs.opus, codecs.aac, codecs.vorbis, codecs.gsm, codecs.mu_law):
        coded = codec(waves, np.random.default_rng(1))
        likeness = torch.nn.functional.cosine_similarity(coded.reshape(-1), waves.reshape(-1), dim=0)
        assert 0.7 < float(likeness) < 0.9999, codec.__name__


@pytest.mark.parametrize("name", ["", "os", "os:", "nowhere.at.all:f", "os:no_such_function", "a:b:c"])
def test_an_edit_from_outside_must_be_there(name: str) -> None:
    with pytest.raises(ValueError, match="names no function"):
        codecs.named(name)


def test_an_edit_from_outside_is_drawn_among_the_others(waves: Tensor) -> None:
    calls = []

    def outside(given: Tensor, rng: np.random.Generator) -> Tensor:
        calls.append(given.shape)
        return given

    editor = Editor([outside])
    for seed in range(150):
        editor.edited(cuts_of(waves[:, :4_000]), np.random.default_rng(seed))
    assert 1 <= len(calls) <= 15


def test_a_window_moves_sound_and_truth_together(waves: Tensor) -> None:
    groups = torch.arange(waves.shape[-1]).repeat(3, 1)
    all_rows = torch.ones(3, dtype=torch.bool)
    cuts = Cuts(waves, groups, torch.zeros(3, 1, 2, dtype=torch.int64), all_rows, ~all_rows)
    starts = torch.tensor([0, 7, 320])
    seen = cuts.window(starts, 1_000, taught=torch.tensor([True, True, False]), mute=torch.tensor([False, False, True]))
    for row, start in enumerate(starts.tolist()):
        assert torch.equal(seen.waves[row], waves[row, start : start + 1_000])
        assert seen.groups[row].tolist() == list(range(start, start + 1_000))
    assert seen.readable.tolist() == [True, True, False]
    assert seen.mute.tolist() == [False, False, True]
    halves = [seen.rows(torch.tensor([0])), seen.rows(torch.tensor([1, 2]))]
    torch.testing.assert_close(joined(halves).waves, seen.waves)


def test_groups_begin_anywhere_and_last_24_frames() -> None:
    messages, groups = draw_messages(500, 64, 16, np.random.default_rng(1))
    assert groups.min() == 0
    assert groups.max() < messages.shape[1]
    firsts = (groups == 0).sum(dim=1)
    assert set(firsts.tolist()) == set(range(1, GROUP_FRAMES + 1))
    assert ((groups == 1).sum(dim=1) == GROUP_FRAMES).all()
    said = spoken(messages, groups)
    assert torch.equal(said[3, 0], messages[3, groups[3, 0]])
    assert torch.equal(said[3, -1], messages[3, groups[3, -1]])


def test_starts_are_on_the_grid_or_anywhere() -> None:
    starts, off = draw_starts(3_000, 4_000, 320, np.random.default_rng(1))
    assert starts.min() >= 0
    assert starts.max() <= 4_000
    assert off.max() == 160
    torch.testing.assert_close(off, torch.minimum(starts % 320, -starts % 320))
    assert (off == 0).float().mean() == pytest.approx(2 / 3, abs=0.03)


def test_masks_are_whole_half_of_the_time() -> None:
    share = draw_masks(400, 1_000, np.random.default_rng(1)).float().mean(dim=1)
    assert (share == 1).float().mean() >= 0.5
    assert (share == 0).float().mean() == pytest.approx(0.25, abs=0.02)


def logits_that_say(presence: float, bits: Tensor, samples: int = 8_000) -> Tensor:
    rows = torch.zeros(len(bits), 2 + bits.shape[1], samples)
    rows[:, 1] = presence
    rows[:, 2:] = bits.unsqueeze(-1)
    return rows


def test_losses_are_small_when_all_is_told_right_and_large_when_not() -> None:
    cuts = cuts_of(torch.zeros(2, 8_000))
    right, wrong = (torch.full((2, 2), value) for value in (8.0, -8.0))
    loss, share = decoding(logits_that_say(8, right), cuts)
    assert (float(loss), float(share)) == (pytest.approx(0, abs=0.01), 1.0)
    loss, share = decoding(logits_that_say(8, wrong), cuts)
    assert (float(loss), float(share)) == (pytest.approx(8, abs=0.1), 0.0)
    assert localisation(logits_that_say(8, right), cuts)[0] < 0.01
    assert localisation(logits_that_say(-8, right), cuts)[0] > 7


def test_presence_is_not_asked_for_where_no_mark_can_be_left() -> None:
    cuts = cuts_of(torch.zeros(2, 8_000), marked_from=4_000)
    lost = cuts.edited(cuts.waves, readable=False)
    says_marked, says_not = (logits_that_say(value, torch.zeros(2, 2)) for value in (8.0, -8.0))
    assert localisation(says_not, lost)[0] < 0.01
    assert localisation(says_marked, lost)[0] > 7  # the unmarked half still counts
    assert localisation(says_not, cuts)[0] > 3


def test_a_mute_row_should_say_nothing_and_a_short_group_is_not_asked_for() -> None:
    cuts = cuts_of(torch.zeros(2, 8_000))
    mute = Cuts(cuts.waves, cuts.groups, cuts.messages, ~cuts.readable, cuts.readable)
    sure, unsure = (decoding(logits_that_say(8, torch.full((2, 2), value)), mute)[0] for value in (8.0, 0.0))
    assert float(unsure) == pytest.approx(0, abs=1e-6)
    assert float(sure) > 0.5
    short = cuts_of(torch.zeros(2, 8_000), marked_from=8_000 - 2_000)  # 0.125 s
    loss, share = decoding(logits_that_say(8, torch.full((2, 2), -8.0)), short)
    assert float(loss) == 0
    assert share.isnan()


def bands_of(waves: Tensor) -> Tensor:
    """Decibels in each of 28 bands of 280 Hz and each 32 ms, float32[rows, bands, frames]."""
    power = torch.stft(waves, 512, 160, window=torch.hann_window(512), return_complex=True).abs().square()[:, 2:254]
    return 10 * torch.log10(power.unflatten(1, (28, 9)).mean(dim=2) + 1e-9)


def test_the_mark_follows_the_speech_by_seven_decibels_for_ten(waves: Tensor) -> None:
    noise = torch.randn(waves.shape, generator=torch.Generator().manual_seed(1))
    mark = set_level(noise, waves, 20.0)
    total = 10 * torch.log10(waves.square().mean(dim=1) / mark.square().mean(dim=1))
    assert ((total > 19) & (total < 22)).all()
    theirs, ours = bands_of(waves), bands_of(mark)
    loud = theirs > -25  # well above the floor
    for frame in range(20, 100, 10):
        here = loud[0, :, frame]
        if here.sum() > 10:
            slope = np.polyfit(theirs[0, here, frame].numpy(), ours[0, here, frame].numpy(), 1)[0]
            assert slope == pytest.approx(FOLLOW, abs=0.25)


def test_twice_the_decibels_is_a_tenth_of_the_amplitude(waves: Tensor) -> None:
    noise = torch.randn(waves.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(set_level(noise, waves, 40.0), set_level(noise, waves, 20.0) / 10)
    each = set_level(noise, waves, torch.tensor([40.0, 20.0, 20.0]))
    torch.testing.assert_close(each[0], set_level(noise, waves, 40.0)[0])
    torch.testing.assert_close(each[1], set_level(noise, waves, 20.0)[1])


def test_the_networks_hear_every_band_at_the_same_loudness(waves: Tensor) -> None:
    heard = whitened(waves)
    assert 0.7 < float(heard.std()) < 1.1
    before, after = bands_of(waves).mean(dim=(0, 2)), bands_of(heard).mean(dim=(0, 2))
    assert float((before.max() - before)[:18].max()) > 15
    assert float((after.max() - after)[:15].max()) < 4  # up to 4 kHz; above, these clips are below the floor


def test_the_level_of_a_block_with_context_is_the_wholes() -> None:
    rng = torch.Generator().manual_seed(1)
    wave, noise = (0.1 * torch.randn(1, 16_000, generator=rng) for _ in range(2))
    whole = set_level(noise, wave, 20.0)
    part = set_level(noise[:, 3_200:12_800], wave[:, 3_200:12_800], 20.0)
    torch.testing.assert_close(part[:, 1_600:-1_600], whole[:, 4_800:11_200], rtol=0, atol=1e-6)


def test_silence_gets_a_mark_below_the_floor() -> None:
    mark = set_level(torch.randn(1, 8_000, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 8_000), 20.0)
    assert mark.isfinite().all()
    assert float(mark.abs().max()) < 1e-3

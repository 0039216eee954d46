"""The keyed mark: found through edits, at any offset, under warps; and by nobody without the secret."""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import soxr
from scipy.signal import butter, sosfilt, stft

from vivavoce.watermark.code import Code
from vivavoce.watermark.keyed.embedding import REACH, carve
from vivavoce.watermark.keyed.layout import COLUMNS, Layout
from vivavoce.watermark.keyed.search import AS_MADE, PLACES, best_place, evidence, look, standing_out, warps
from vivavoce.watermark.keyed.spectrum import BANDS, COLUMN, spectrum, wave_of
from vivavoce.watermark.networks import SAMPLE_RATE

SECRET = bytes(range(32))
IDENTITY = 77
LAYOUT = Layout(SECRET, 16)
FOUND = 3.0


@pytest.fixture(scope="module")
def wave(long_clip: np.ndarray) -> np.ndarray:
    """10 s of speech at 16 kHz, a whole number of columns."""
    return np.asarray(soxr.resample(long_clip, 24_000, SAMPLE_RATE), dtype=np.float32)[: 250 * COLUMN]


@pytest.fixture(scope="module")
def marked(wave: np.ndarray) -> np.ndarray:
    return wave + mark_for(wave, LAYOUT)


def mark_for(wave: np.ndarray, layout: Layout) -> np.ndarray:
    columns = np.arange(-REACH, len(wave) // COLUMN + REACH)
    pattern = layout.pattern(Code(SECRET).bits(IDENTITY))[(layout.start(IDENTITY) + columns) % COLUMNS]
    padded = np.pad(wave, REACH * COLUMN)
    return carve(padded, pattern, 1.0)[REACH * COLUMN : -REACH * COLUMN]


def power(wave: np.ndarray) -> np.ndarray:
    return (np.abs(spectrum(np.asarray(wave, dtype=np.float32))) ** 2).astype(np.float32)


def coded(wave: np.ndarray, container: str, subtype: str, rate: int = SAMPLE_RATE, **options: float) -> np.ndarray:
    buffer = io.BytesIO()
    sent = soxr.resample(wave, SAMPLE_RATE, rate).clip(-1, 1)
    soundfile.write(buffer, sent, rate, format=container, subtype=subtype, **options)
    buffer.seek(0)
    return np.asarray(soxr.resample(soundfile.read(buffer, dtype="float32")[0], rate, SAMPLE_RATE))


def filtered(wave: np.ndarray, kind: str, hertz: float) -> np.ndarray:
    return np.asarray(sosfilt(butter(4, hertz, kind, fs=SAMPLE_RATE, output="sos"), wave))


def with_noise(wave: np.ndarray, decibels: float) -> np.ndarray:
    noise = np.random.default_rng(5).standard_normal(len(wave))
    return wave + noise * wave.std() * 10 ** (-decibels / 20)


EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda wave: wave,
    "polarity": lambda wave: -wave,
    "gain": lambda wave: 0.05 * wave,
    "clipping": lambda wave: (4 * wave).clip(-0.3, 0.3),
    "MP3 at 32 kbit/s": lambda wave: coded(wave, "MP3", "MPEG_LAYER_III", compression_level=0.9),
    "Opus at 16 kbit/s": lambda wave: coded(wave, "OGG", "OPUS", compression_level=0.96),
    "GSM": lambda wave: coded(wave, "WAV", "GSM610", 8_000),
    "mu-law at 8 kHz": lambda wave: coded(wave, "WAV", "ULAW", 8_000),
    "noise at 20 dB": lambda wave: with_noise(wave, 20),
    "noise at 10 dB": lambda wave: with_noise(wave, 10),
    "low-pass at 3.5 kHz": lambda wave: filtered(wave, "low", 3_500),
    "high-pass at 1.5 kHz": lambda wave: filtered(wave, "high", 1_500),
    "echo": lambda wave: wave + 0.4 * np.pad(wave, (2_400, 0))[: len(wave)],
    "the first second cut off": lambda wave: wave[SAMPLE_RATE + 37 :],
}


@pytest.mark.parametrize("edit", EDITS)
def test_found_through_edits(wave: np.ndarray, marked: np.ndarray, edit: str) -> None:
    for sound, ours in ((marked, True), (wave, False)):
        match = look(power(EDITS[edit](sound)), LAYOUT, (AS_MADE,), noisy="noise" in edit)
        assert (evidence(match.z, PLACES) >= FOUND) == ours, match


@pytest.mark.parametrize("offset", [0, 1, 79, 80, 160, 5_000, 20_001])
def test_the_place_is_told_to_half_a_frame(marked: np.ndarray, offset: int) -> None:
    match = look(power(marked[offset:]), LAYOUT, (AS_MADE,))
    true = LAYOUT.start(IDENTITY) * 4 + offset / 160
    assert abs((match.first - true + PLACES / 2) % PLACES - PLACES / 2) <= 0.75


@pytest.mark.parametrize("speed", [0.8, 0.95, 1.033, 1.25])
def test_another_speed_is_found_and_told(wave: np.ndarray, marked: np.ndarray, speed: float) -> None:
    rate = SAMPLE_RATE / speed
    match = look(power(soxr.resample(marked, SAMPLE_RATE, rate)), LAYOUT, warps())
    assert evidence(match.z, PLACES * len(warps())) >= FOUND
    assert match.warp.tempo == pytest.approx(speed, rel=0.003)
    assert match.warp.pitch == pytest.approx(speed, rel=0.003)
    unmarked = look(power(soxr.resample(wave, SAMPLE_RATE, rate)), LAYOUT, warps())
    assert evidence(unmarked.z, PLACES * len(warps())) < FOUND


@pytest.mark.parametrize("semitones", [-1, 1])
def test_another_pitch_is_found_and_told(marked: np.ndarray, semitones: int) -> None:
    """Stretched by a phase vocoder, then resampled back to its length."""
    factor = 2 ** (semitones / 12)
    stretched = vocoder(marked, factor)
    match = look(power(soxr.resample(stretched, SAMPLE_RATE, SAMPLE_RATE / factor)), LAYOUT, warps())
    assert evidence(match.z, PLACES * len(warps())) >= FOUND
    assert match.warp.pitch == pytest.approx(factor, rel=0.012)
    assert match.warp.tempo == pytest.approx(1.0, rel=0.004)


@pytest.mark.parametrize("tempo", [0.9, 1.1])
def test_a_stretched_sound_is_found_and_told(marked: np.ndarray, tempo: float) -> None:
    match = look(power(vocoder(marked, 1 / tempo)), LAYOUT, warps())
    assert evidence(match.z, PLACES * len(warps())) >= FOUND
    assert match.warp.tempo == pytest.approx(tempo, rel=0.004)
    assert match.warp.pitch == pytest.approx(1.0, rel=0.012)


def vocoder(wave: np.ndarray, longer: float) -> np.ndarray:
    """A textbook phase vocoder (Flanagan and Golden 1966): `longer` times the length at the same pitch."""
    hop, size = 128, 1024
    _, _, frames = stft(wave, nperseg=size, noverlap=size - hop)
    advance = 2 * np.pi * hop * np.arange(frames.shape[0]) / size
    phase = np.angle(frames[:, 0])
    columns = []
    for at in np.arange(0, frames.shape[1] - 1, 1 / longer):
        before, after = frames[:, int(at)], frames[:, int(at) + 1]
        columns.append(((1 - at % 1) * np.abs(before) + (at % 1) * np.abs(after)) * np.exp(1j * phase))
        step = np.angle(after) - np.angle(before) - advance
        phase = phase + advance + step - 2 * np.pi * np.round(step / (2 * np.pi))
    pieces = np.fft.irfft(np.array(columns), axis=1) * np.hanning(size)
    out = np.zeros(hop * len(pieces) + size)
    for number, piece in enumerate(pieces):
        out[number * hop : number * hop + size] += piece
    return out / np.abs(out).max() * 0.5


def test_without_the_secret_there_is_nothing_to_see(marked: np.ndarray) -> None:
    for number in range(20):
        stranger = Layout(bytes([number]) * 32, 16)
        assert evidence(look(power(marked), stranger, (AS_MADE,)).z, PLACES) < FOUND


def test_the_bound_on_false_positives_holds(wave: np.ndarray) -> None:
    """Over random secrets (what the bound is about), an unmarked sound seems marked no more often than it may."""
    rows = standing_out(power(wave[: 2 * SAMPLE_RATE]), AS_MADE)
    scores = [evidence(best_place(rows, Layout(bytes([n // 256, n % 256]), 16))[1], PLACES) for n in range(1_000)]
    assert np.mean(np.array(scores) >= 1) <= 0.1
    assert np.mean(np.array(scores) >= 2) <= 0.01
    assert max(scores) < FOUND + 1


def test_the_mark_is_quiet_and_bounded(wave: np.ndarray, marked: np.ndarray) -> None:
    mark = marked - wave
    assert 10 * np.log10(np.sum(wave**2) / np.sum(mark**2)) > 18
    np.testing.assert_array_equal(mark_for(np.zeros_like(wave), LAYOUT), 0)
    assert np.abs(mark_for(100 * wave, LAYOUT) / 100 - mark).max() < 0.02 * np.abs(mark).max() + 1e-4


def test_the_pattern_begins_elsewhere_for_each_identity() -> None:
    """Else the same signs would stand at the beginning of every sound, to be averaged out by whoever has many."""
    starts = np.array([LAYOUT.start(identity) for identity in range(2_000)])
    assert np.bincount(starts, minlength=COLUMNS).max() < 40


def test_layouts_stay_what_they_are() -> None:
    """Sounds marked today must be found in years."""
    parts = (
        LAYOUT.pilot,
        LAYOUT.payload,
        LAYOUT.bit,
        LAYOUT.message_bit,
        LAYOUT.message_flip,
        [LAYOUT.start(IDENTITY)],
    )
    data = b"".join(np.asarray(part).astype("<i8").tobytes() for part in parts)
    assert hashlib.sha256(data).hexdigest() == "0d0a1247096550753c62ebc21d872caf6d6be72784761fd9f74b43d57c2b476b"


def test_layouts_use_every_bit_and_half_the_tiles() -> None:
    assert LAYOUT.pilot.shape == (COLUMNS, BANDS)
    assert np.all(np.abs(LAYOUT.pilot) + np.abs(LAYOUT.payload) == 1)
    assert 0.45 < np.abs(LAYOUT.pilot).mean() < 0.55
    used = np.bincount(LAYOUT.bit[LAYOUT.payload != 0], minlength=512)
    assert used.max() - used.min() <= 1
    assert LAYOUT.messages(np.zeros(512, dtype=np.uint8)).mean() == pytest.approx(0.5, abs=0.15)


def test_the_spectrum_can_be_inverted(wave: np.ndarray) -> None:
    np.testing.assert_allclose(wave_of(spectrum(wave), len(wave)), wave, atol=1e-5)

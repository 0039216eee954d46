"""What happens to a file after it leaves us, made learnable. Codecs are in `codecs`, changes of pace in `warps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from vivavoce.watermark.networks import SAMPLE_RATE
from vivavoce.watermark.training import codecs, warps
from vivavoce.watermark.training.cuts import Cuts

Edit = Callable[[Tensor, np.random.Generator], Tensor]  # float32[batch, samples] to the same shape, nothing moved
Warp = Callable[[Tensor, np.random.Generator], tuple[Tensor, float]]


def nothing(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """The wave as it is."""
    return waves


def noise(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """White noise, pink noise, or the other rows' babble, 10 to 40 dB below the wave."""
    kind = int(rng.integers(3))
    hiss = torch.from_numpy(rng.standard_normal(waves.shape).astype(np.float32)).to(waves.device)
    if kind == 1:
        hiss = _shaped(hiss, lambda frequency: (frequency + 20).rsqrt())
    elif kind == 2 and len(waves) > 1:
        # Backwards, so that the marks of the other rows are none.
        hiss = (waves.detach().sum(dim=0) - waves.detach()).flip(-1)
    below = torch.from_numpy(rng.uniform(10, 40, (len(waves), 1)).astype(np.float32)).to(waves.device)
    level = _rms(waves.detach()) * 10 ** (-below / 20)
    return waves + hiss * (level / _rms(hiss))


def gain(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """-20 to +10 dB, clipped at full scale."""
    return (waves * 10 ** (rng.uniform(-20, 10) / 20)).clamp(-1, 1)


def polarity(waves: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001 - the shape of every edit
    """Turned upside down."""
    return -waves


def low_pass(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Nothing above 3 to 7.5 kHz; 24 to 96 dB an octave."""
    edge, order = rng.uniform(3_000, 7_500), int(rng.integers(4, 17))
    return _shaped(waves, lambda frequency: (1 + (frequency / edge) ** (2 * order)).rsqrt())


def high_pass(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """Nothing below 100 to 1,500 Hz; 24 to 96 dB an octave."""
    edge, order = 100 * 15 ** rng.uniform(0, 1), int(rng.integers(4, 17))
    return _shaped(waves, lambda frequency: (1 + (edge / frequency.clamp(min=1)) ** (2 * order)).rsqrt())


def echo(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """The wave again, 50 to 300 ms later, at 0.2 to 0.6 of its amplitude."""
    late = int(rng.uniform(0.05, 0.3) * SAMPLE_RATE)
    return waves + float(rng.uniform(0.2, 0.6)) * torch.nn.functional.pad(waves, (late, 0))[:, : waves.shape[-1]]


def reverb(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """A simulated room: the direct sound, six early reflections and a tail of noise (RT60 0.1 to 0.6 s)."""
    rt60 = rng.uniform(0.1, 0.6)
    time = np.arange(int(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    decay = 10 ** (-3 * time / rt60)  # -60 dB after `rt60`
    room = rng.standard_normal(len(time)) * decay * (time > 0.02)  # seconds; the tail begins when walls are reached
    places = (rng.uniform(0.002, 0.05, 6) * SAMPLE_RATE).astype(int)
    early = np.zeros_like(room)
    early[places] = rng.choice([-1, 1], 6) * decay[places] * rng.uniform(0.2, 0.7, 6)
    # The direct sound is 12 dB above the tail (a near microphone) to as loud as it (a far one).
    room *= 10 ** (-rng.uniform(0, 12) / 20) / (np.linalg.norm(room) + 1e-9)
    room += early
    room[0] = 1.0
    size = waves.shape[-1] + len(room)
    response = torch.fft.rfft(torch.from_numpy(room.astype(np.float32)).to(waves.device), n=size)
    wet: Tensor = torch.fft.irfft(torch.fft.rfft(waves, n=size) * response, n=size)
    return wet[:, : waves.shape[-1]]


def denoise(waves: Tensor, rng: np.random.Generator) -> Tensor:
    """A spectral gate: what is near each band's noise floor is turned down by 6 to 20 dB."""
    window = torch.hann_window(512, device=waves.device)
    spectrum = torch.stft(waves, 512, 128, window=window, return_complex=True)
    with torch.no_grad():
        magnitude = spectrum.abs()
        floor = magnitude.quantile(0.15, dim=-1, keepdim=True) * float(rng.uniform(1.5, 3))
        lowest = float(10 ** (-rng.uniform(6, 20) / 20))
        mask = ((magnitude - floor) / (magnitude + 1e-6)).clamp(lowest, 1)
    return torch.istft(spectrum * mask, 512, 128, window=window, length=waves.shape[-1])


# How often each is drawn. Lossy codecs are what every served file goes through.
EDITS: Mapping[Edit, float] = MappingProxyType(
    {
        nothing: 4,
        noise: 4,
        gain: 1,
        polarity: 1,
        low_pass: 2,
        high_pass: 3,
        echo: 1,
        reverb: 2,
        denoise: 1,
        codecs.mp3: 2,
        codecs.opus: 2,
        codecs.aac: 2,
        codecs.vorbis: 1,
        codecs.gsm: 2,
        codecs.mu_law: 1,
        codecs.resample: 1,
    }
)
WARPS: Mapping[Warp, float] = MappingProxyType({warps.speed: 2, warps.stretch: 0.5, warps.pitch: 0.5})
OTHERS = 1.0  # weight of each edit from outside


class Editor:
    """Draws edits, those from outside among them."""

    def __init__(self, others: Sequence[Edit] = ()) -> None:
        self._warps = list(WARPS)
        self._edits = [*EDITS, *others]
        weights = np.array([*WARPS.values(), *EDITS.values(), *[OTHERS] * len(others)])
        self._chances = weights / weights.sum()

    def edited(self, cuts: Cuts, rng: np.random.Generator) -> Cuts:
        """Cuts edited in one way, drawn by chance; after a warp, of another length and with no bits to be read."""
        drawn = int(rng.choice(len(self._chances), p=self._chances))
        if drawn < len(self._warps):
            return cuts.edited(*self._warps[drawn](cuts.waves, rng), readable=False)
        return cuts.edited(self._edits[drawn - len(self._warps)](cuts.waves, rng))


def _shaped(waves: Tensor, response: Callable[[Tensor], Tensor]) -> Tensor:
    """Each frequency (Hz) times the response there, phases kept."""
    samples = waves.shape[-1]
    frequency = torch.fft.rfftfreq(samples, 1 / SAMPLE_RATE).to(waves.device)
    shaped: Tensor = torch.fft.irfft(torch.fft.rfft(waves) * response(frequency), n=samples)
    return shaped


def _rms(waves: Tensor) -> Tensor:
    return (waves.square().mean(dim=-1, keepdim=True) + 1e-12).sqrt()

"""What the networks are taught by: presence, bits, and a spectrum that stays what it was.

Loudness is no loss here: `vivavoce.watermark.level` holds the mark below the speech in each band and moment.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn import functional

from vivavoce.watermark.level import FLOOR
from vivavoce.watermark.networks import SAMPLE_RATE
from vivavoce.watermark.training.cuts import Cuts

LEAST_SECONDS = 0.15  # of a group have to be in the cut for its bits to be asked for
MUTE_WEIGHT = 0.3  # of the bits that nothing should be read from, beside those that are taught
SCALES = (256, 512, 1024)  # FFT sizes of the spectral loss


def localisation(logits: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """Cross-entropy of presence for each sample, and the share of samples that is told right.

    Where a mark is that nothing can be read from at any offset, presence is not asked for: three of four cuts are
    marked, so that sped up or slowed down speech would come to be taken for marked as such.
    """
    logit = logits[:, 1] - logits[:, 0]
    present = cuts.present
    asked = (present == 0) | (cuts.readable | cuts.mute).unsqueeze(1)
    loss = functional.binary_cross_entropy_with_logits(logit[asked], present[asked])
    return loss, ((logit > 0) == (present > 0))[asked].float().mean()


def decoding(logits: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each bit's mean logit over its group, and the share of bits read right (NaN: none asked for).

    Where a row is mute, only an undecided bit is right: so that what was read at several offsets can be added up.
    """
    index = torch.arange(cuts.messages.shape[1], device=logits.device)
    inside = (cuts.groups.unsqueeze(-1) == index).to(logits.dtype)  # [batch, samples, groups]
    size = inside.sum(dim=1)  # [batch, groups]
    mean = (logits[:, 2:] @ inside).transpose(1, 2) / size.clamp(min=1).unsqueeze(-1)
    long_enough = size >= LEAST_SECONDS * SAMPLE_RATE
    asked, mute = long_enough & cuts.readable.unsqueeze(1), long_enough & cuts.mute.unsqueeze(1)
    wanted = cuts.messages[asked].to(logits.dtype)
    loss = logits.sum() * 0
    if mute.any():
        undecided = torch.full_like(mean[mute], 0.5)
        loss = loss + MUTE_WEIGHT * (functional.binary_cross_entropy_with_logits(mean[mute], undecided) - log(2))
    if asked.any():
        loss = loss + functional.binary_cross_entropy_with_logits(mean[asked], wanted)
    return loss, ((mean[asked] > 0) == (wanted > 0)).float().mean()


def spectral_loss(marked: Tensor, waves: Tensor) -> Tensor:
    """Mean difference of the logarithmic spectra at several resolutions."""
    losses = [(_log_magnitude(marked, size) - _log_magnitude(waves, size)).abs().mean() for size in SCALES]
    return torch.stack(losses).mean()


def _log_magnitude(waves: Tensor, size: int) -> Tensor:
    return (_power(waves, size) + size * FLOOR**2).log() / 2


def _power(waves: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size, device=waves.device)
    return torch.stft(waves, size, size // 2, window=window, return_complex=True).abs().square()

"""The parts against slow, obvious versions of themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vivavoce.model.attention import QUERY_BLOCK, Sight
from vivavoce.model.codec import OwnGroupNorm
from vivavoce.model.quantizer import ResidualQuantizer
from vivavoce.model.vocoder import InverseSTFT

WINDOWS = [(-1, -1), (-1, 0), (3, 2), (0, 0), (4, -1), (-1, 2), (5, 0)]


def _frame_by_frame(query: Tensor, key: Tensor, value: Tensor, frame: int, seen: range) -> Tensor:
    scores = torch.stack([query[:, frame] @ key[:, other].T for other in seen], -1) / math.sqrt(query.shape[-1])
    scores = scores.diagonal(dim1=0, dim2=1).T  # one head's query meets the same head's key
    return (scores.softmax(-1)[..., None] * value[:, seen.start : seen.stop]).sum(1)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows(window: tuple[int, int]) -> None:
    """Each frame attends to `left` frames before and `right` after it, of its own row, across mask blocks."""
    frames, lengths = QUERY_BLOCK + 21, [QUERY_BLOCK + 21, 17]
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 2, frames, 4, generator=generator) for _ in range(3))
    got = Sight(frames, torch.tensor(lengths), window, query.device).attend(query, key, value)
    assert torch.isfinite(got).all()
    for row, length in enumerate(lengths):
        for frame in {0, 1, 9, 16, QUERY_BLOCK - 1, QUERY_BLOCK, length - 1} & set(range(length)):
            first = 0 if window[0] < 0 else max(0, frame - window[0])
            last = length if window[1] < 0 else min(length, frame + window[1] + 1)
            wanted = _frame_by_frame(query[row], key[row], value[row], frame, range(first, last))
            assert (got[row, :, frame] - wanted).abs().max() < 1e-5


def test_group_norm_counts_own_frames_only() -> None:
    """Each row as torch's GroupNorm gives it alone, whatever lies behind it."""
    ours, theirs = OwnGroupNorm(6), nn.GroupNorm(1, 6)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(6))
        ours.bias.copy_(torch.randn(6))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 20) * 5 + 2
    for row, length in enumerate((20, 7, 1)):
        got = ours(x, torch.tensor([20, 7, 1]))[row, :, :length]
        assert (got - theirs(x[row : row + 1, :, :length])[0]).abs().max() < 1e-5
    assert (ours(x) - theirs(x)).abs().max() < 1e-5


@pytest.mark.parametrize(("nfft", "hop"), [(16, 4), (16, 5), (32, 8), (12, 10)])
def test_inverse_stft(nfft: int, hop: int) -> None:
    """Overlap-add as written down in a loop; rows of a padded batch as alone."""
    frames = 7
    spectrum = torch.randn(2, nfft // 2 + 1, frames, dtype=torch.complex64)
    module = InverseSTFT(nfft, hop)
    window = torch.hann_window(nfft)
    total, envelope = torch.zeros((frames - 1) * hop + nfft), torch.zeros((frames - 1) * hop + nfft)
    for frame in range(frames):
        at = slice(frame * hop, frame * hop + nfft)
        total[at] += torch.fft.irfft(spectrum[0, :, frame], nfft) * window
        envelope[at] += window.square()
    cut = (nfft - hop) // 2
    wanted = (total / envelope.clamp(min=1e-11))[cut : len(total) - cut]
    assert (module(spectrum, None)[0] - wanted).abs().max() < 1e-4
    assert wanted.shape[0] == module.samples(frames)
    padded = module(spectrum, torch.tensor([4, 7]))
    alone = module(spectrum[:1, :, :4], None)[0]
    assert (padded[0, : module.samples(4)] - alone).abs().max() < 1e-5


def test_quantizer_takes_the_nearest_entry_of_what_is_left() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer((9, 5, 5), 4)
    for book in quantizer.codebooks:
        book.embed.copy_(torch.randn(book.embed.shape, generator=generator))
    features = torch.randn(50, 4, generator=generator)
    codes = quantizer.encode(features)
    for frame in range(50):
        left = features[frame].clone()
        for book, code in zip(quantizer.codebooks, codes[:, frame], strict=True):
            assert int(code) == int((left - book.embed).norm(dim=1).argmin())
            left -= book.embed[code]
    first, second = (book.embed[code] for book, code in zip(quantizer.codebooks[:2], codes[:2], strict=True))
    assert torch.equal(quantizer.decode(codes[:2]), first + second)


def test_quantizer_ties_go_to_the_first_entry() -> None:
    """Two entries that float32 cannot tell apart: the order of a matrix product's sums must not choose."""
    quantizer = ResidualQuantizer((3,), 2)
    quantizer.codebooks[0].embed.copy_(torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0 + 1e-7]]))
    assert quantizer.encode(torch.tensor([[0.5, 0.5]])).tolist() == [[1]]

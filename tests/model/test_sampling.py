"""Sampling: the order of its filters, and the distribution it draws from."""

from __future__ import annotations

import pytest
import torch

from vivavoce.model.errors import ModelError
from vivavoce.model.sampling import GREEDY, Sampler, Sampling, uniform_numbers

CPU = torch.device("cpu")


def _frequencies(sampling: Sampling, logits: torch.Tensor, forbidden: torch.Tensor | None = None) -> torch.Tensor:
    draws = 20_000
    sampler = Sampler([sampling] * draws, CPU)
    picked = sampler.pick(logits.expand(draws, -1), uniform_numbers(draws, torch.Generator().manual_seed(0)), forbidden)
    return torch.bincount(picked, minlength=len(logits)) / draws


def test_draws_follow_the_softmax_at_the_temperature() -> None:
    """Frequencies are the probabilities, within four standard errors."""
    logits = torch.tensor([1.0, 0.0, -2.0, 3.0, 2.5])
    expected = (logits / 0.7).softmax(-1)
    assert (_frequencies(Sampling(temperature=0.7), logits) - expected).abs().max() < 4 * (0.25 / 20_000) ** 0.5


def test_top_k_keeps_the_k_likeliest() -> None:
    """Ids beyond the k likeliest never come, the others keep their ratio."""
    found = _frequencies(Sampling(top_k=2), torch.tensor([1.0, 0.0, -2.0, 3.0, 2.5]))
    assert set(found.nonzero().flatten().tolist()) == {3, 4}


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    """Of probabilities 0.5, 0.3, 0.15, 0.05 a p of 0.75 keeps two, of 0.85 three, of 0.01 one."""
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for top_p, kept in ((0.75, 2), (0.85, 3), (0.01, 1), (1.0, 4)):
        assert int((_frequencies(Sampling(top_p=top_p), logits) > 0).sum()) == kept


def test_temperature_comes_before_top_p() -> None:
    """A hot temperature flattens first, so top-p keeps more ids than it would of the raw distribution."""
    logits = torch.tensor([0.9, 0.06, 0.03, 0.01]).log()
    assert int((_frequencies(Sampling(top_p=0.8), logits) > 0).sum()) == 1
    assert int((_frequencies(Sampling(temperature=5.0, top_p=0.8), logits) > 0).sum()) > 2


def test_ids_are_forbidden_after_truncation() -> None:
    """Top-k counts the forbidden id too; where only forbidden ones are left, the likeliest allowed one comes."""
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0])
    first = torch.tensor([True, False, False, False])
    assert _frequencies(Sampling(top_k=2), logits, first).tolist() == [0, 1, 0, 0]
    assert _frequencies(Sampling(top_k=1), logits, first).tolist() == [0, 1, 0, 0]
    assert _frequencies(Sampling(top_p=0.1), logits, first).tolist() == [0, 1, 0, 0]
    assert _frequencies(GREEDY, logits, first).tolist() == [0, 1, 0, 0]


def test_each_row_is_drawn_in_its_own_way() -> None:
    """Greedy, truncated and free rows side by side give what each gives alone."""
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    ways = [GREEDY, Sampling(top_k=1), Sampling(temperature=2.0), Sampling(top_p=0.5, temperature=0.5)]
    numbers = uniform_numbers(4, torch.Generator().manual_seed(3))
    together = Sampler(ways, CPU).pick(logits, numbers)
    for row, way in enumerate(ways):
        assert together[row] == Sampler([way], CPU).pick(logits[row : row + 1], numbers[row : row + 1])[0]
    assert together[0] == together[0].new_tensor(int(logits[0].argmax()))


def test_the_ends_of_the_unit_interval_draw_possible_ids() -> None:
    """0 and the largest number below 1 never land on an id of probability 0."""
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert Sampler([Sampling()] * 2, CPU).pick(logits, ends).tolist() == [1, 2]


@pytest.mark.parametrize(
    "bad", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_senseless_options_are_refused(bad: dict[str, float]) -> None:
    """A way to sample that means nothing is an error at once."""
    with pytest.raises(ModelError):
        Sampling(**bad)  # type: ignore[arg-type]

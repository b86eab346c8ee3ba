"""Mean, deviation and slope over time: by their definitions, whatever stands in the padding, and as a sequence comes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.moments import NUM_MOMENTS, moments, moments_of_prefixes, moments_step


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sampled_from([0.0, 1.0, 100.0]))
def test_they_are_what_they_are_called(lengths: list[int], offset: float) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    vectors = offset + torch.randn(len(lengths), 7, 3, generator=generator, dtype=torch.float64)
    for row, length in enumerate(lengths):
        vectors[row, length:] = torch.nan
    found = moments(vectors, torch.tensor(lengths)).unflatten(-1, (NUM_MOMENTS, 3))
    for row, length in enumerate(lengths):
        steps = vectors[row, :length]
        places = (
            torch.linspace(-1, 1, length, dtype=torch.float64) if length > 1 else torch.zeros(1, dtype=torch.float64)
        )
        deviation = (steps.var(0, correction=0) + 1e-5).sqrt()
        expected = torch.stack([steps.mean(0), deviation, (places[:, None] * steps).mean(0)])
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-9)


def test_each_prefix_is_a_sequence_of_its_own() -> None:
    vectors = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    over_time, so_far = moments_of_prefixes(vectors), None
    for step in range(5):
        now, so_far = moments_step(vectors[:, step], so_far)
        torch.testing.assert_close(now, over_time[:, step], rtol=0, atol=0)
        whole = moments(vectors, torch.tensor([step + 1] * 2))
        torch.testing.assert_close(now, whole, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    vectors = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: moments(values, torch.tensor([4, 2])), (vectors,))


def test_a_sequence_that_stands_still_has_finite_gradients() -> None:
    vectors = torch.ones(1, 3, 2, requires_grad=True)
    found = moments(vectors, torch.tensor([3]))
    torch.testing.assert_close(found, torch.tensor([[1, 1, 1e-5**0.5, 1e-5**0.5, 0, 0]]))
    assert torch.autograd.grad(found.sum(), vectors)[0].isfinite().all()


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        moments(torch.zeros(2, 3, 4), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="lengths"):
        moments(torch.zeros(2, 3, 4), torch.tensor([4, 3]))

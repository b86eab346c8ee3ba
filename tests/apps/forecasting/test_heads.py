"""Heads against formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from apps.forecasting.heads import HeadConfig, Point, Quantiles

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=60)

values = st.floats(-50, 50, width=32)


def arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=values)


@st.composite
def level_lists(draw: st.DrawFn) -> list[float]:
    """Ascending levels with the median among them."""
    others = draw(st.sets(st.sampled_from([k / 20 for k in range(1, 20) if k != 10]), max_size=6))
    return sorted({0.5, *others})


def pinball(forecast: np.ndarray, target: np.ndarray, levels: list[float]) -> np.ndarray:
    """Mean over the levels of 2 (y - q) level where y is above, 2 (q - y) (1 - level) where it is below."""
    total = np.zeros(target.shape)
    for k, level in enumerate(levels):
        gap = target - forecast[..., k]
        total += 2 * np.where(gap > 0, gap * level, -gap * (1 - level))
    return total / len(levels)


@patient
@given(forecast=arrays(3, 4), target=arrays(3, 4), mask=hnp.arrays(np.bool_, (3, 4)), delta=st.floats(0.1, 5))
def test_point_losses(forecast: np.ndarray, target: np.ndarray, mask: np.ndarray, delta: float) -> None:
    gap = np.abs(target - forecast)
    formulas = [
        (Point("mse"), gap**2),
        (Point("mae"), gap),
        (Point("huber"), np.where(gap <= 1, gap**2 / 2, gap - 0.5)),
        (Point("huber", delta=delta), np.where(gap <= delta, gap**2 / 2, delta * (gap - delta / 2))),
    ]
    for head, expected in formulas:
        losses = head.losses(torch.from_numpy(forecast).unsqueeze(-1), _junk(target, mask), mask=torch.from_numpy(mask))
        np.testing.assert_allclose(losses.numpy(), np.where(mask, expected, 0.0), rtol=1e-10, atol=1e-10)


def _junk(target: np.ndarray, mask: np.ndarray) -> Tensor:
    """A missing target may be anything."""
    return torch.from_numpy(np.where(mask, target, np.nan))


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_is_half_the_square_when_small_and_linear_when_large(delta: float) -> None:
    head = Point("huber", delta=delta)
    errors = torch.linspace(0, 10 * delta, 201, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 201, dtype=torch.bool)
    loss = head.losses(errors.view(1, -1, 1), torch.zeros(1, 201, dtype=torch.float64), mask=mask)[0]
    small = errors <= delta
    torch.testing.assert_close(loss[small], errors[small].square() / 2)
    (slope,) = torch.autograd.grad(loss.sum(), errors)
    torch.testing.assert_close(slope[~small], torch.full_like(slope[~small], delta))


@patient
@given(data=st.data(), levels=level_lists(), mask=hnp.arrays(np.bool_, (2, 3)))
def test_the_quantile_loss(data: st.DataObject, levels: list[float], mask: np.ndarray) -> None:
    forecast, target = data.draw(arrays(2, 3, len(levels))), data.draw(arrays(2, 3))
    losses = Quantiles(levels).losses(torch.from_numpy(forecast), _junk(target, mask), mask=torch.from_numpy(mask))
    expected = np.where(mask, pinball(forecast, target, levels), 0.0)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-10, atol=1e-10)


def test_the_median_alone_is_the_absolute_error() -> None:
    """So that the losses of the two heads are in one unit."""
    forecast, target = torch.randn(4, 3, 1), torch.randn(4, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    torch.testing.assert_close(
        Quantiles([0.5]).losses(forecast, target, mask=mask), Point("mae").losses(forecast, target, mask=mask)
    )


@patient
@given(sample=hnp.arrays(np.float64, st.integers(1, 30), elements=values), level=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_no_constant_has_a_smaller_loss_than_the_empirical_quantile(sample: np.ndarray, level: float) -> None:
    """The loss is convex and linear between the points of a sample: one of them is a minimiser."""
    head = Quantiles(sorted({level, 0.5}))
    column = head.quantiles.index(level)

    def loss_of(constant: float) -> float:
        forecast = np.zeros((1, len(sample), head.num_outputs))
        forecast[..., column] = constant
        target = torch.from_numpy(sample).unsqueeze(0)
        mask = torch.ones(1, len(sample), dtype=torch.bool)
        return float(head.losses(torch.from_numpy(forecast), target, mask=mask).sum())

    quantile = float(np.quantile(sample, level, method="inverted_cdf"))
    best = min(loss_of(float(point)) for point in sample)
    assert loss_of(quantile) == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_gradient_descent_finds_the_empirical_quantiles() -> None:
    sample = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=999))
    head = Quantiles([0.1, 0.5, 0.9])
    constants = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([constants], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
    mask = torch.ones(1, 999, dtype=torch.bool)
    for _ in range(600):
        optimizer.zero_grad()
        head.losses(constants.expand(1, 999, 3), sample.unsqueeze(0), mask=mask).mean().backward()
        optimizer.step()
        schedule.step()
    expected = torch.quantile(sample, constants.new_tensor(head.levels))
    torch.testing.assert_close(constants.detach(), expected, rtol=0.02, atol=0.01)


@patient
@given(data=st.data(), levels=level_lists())
def test_shown_quantiles_ascend_and_hold_the_same_values(data: st.DataObject, levels: list[float]) -> None:
    outputs = data.draw(arrays(2, 3, len(levels)))
    head = Quantiles(levels)
    shown = head.sorted(torch.from_numpy(outputs)).numpy()
    np.testing.assert_array_equal(shown, np.sort(outputs, axis=-1))
    np.testing.assert_array_equal(head.median(torch.from_numpy(outputs)).numpy(), shown[..., levels.index(0.5)])


@patient
@given(data=st.data(), levels=level_lists())
def test_rearrangement_never_makes_the_loss_worse(data: st.DataObject, levels: list[float]) -> None:
    outputs, target = torch.from_numpy(data.draw(arrays(2, 3, len(levels)))), torch.from_numpy(data.draw(arrays(2, 3)))
    head, mask = Quantiles(levels), torch.ones(2, 3, dtype=torch.bool)
    before = head.losses(outputs, target, mask=mask)
    assert (head.losses(head.sorted(outputs), target, mask=mask) <= before + 1e-9).all()


@patient
@given(half=hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(0, 50)), centre=values)
def test_the_mean_of_a_symmetric_set_is_its_centre(half: np.ndarray, centre: float) -> None:
    head = Quantiles([0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95])
    outputs = np.concatenate([centre - half, np.full((2, 3, 1), centre), centre + half], axis=-1)
    np.testing.assert_allclose(head.mean(torch.from_numpy(outputs)).numpy(), centre, rtol=1e-9, atol=1e-9)


@patient
@given(data=st.data(), levels=level_lists())
def test_the_mean_integrates_the_quantile_function(data: st.DataObject, levels: list[float]) -> None:
    """By a fine Riemann sum over an interpolation, flat beyond the outer levels."""
    outputs = data.draw(arrays(1, 1, len(levels)))
    grid = (np.arange(20_000) + 0.5) / 20_000
    expected = np.interp(grid, levels, np.sort(outputs[0, 0])).mean()
    assert float(Quantiles(levels).mean(torch.from_numpy(outputs))) == pytest.approx(expected, abs=1e-3)


def test_a_point_forecast_is_its_own_mean_and_median() -> None:
    outputs = torch.randn(2, 3, 1)
    head = Point("huber")
    assert head.num_outputs == 1
    assert not head.levels
    for shown in (head.mean(outputs), head.median(outputs), head.sorted(outputs).squeeze(-1)):
        assert torch.equal(shown, outputs.squeeze(-1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point("mse", delta=1.0), "delta belongs to the huber loss; with 'mse' it does nothing"),
        (lambda: Point("huber", delta=0.0), "head.delta must be positive, got 0.0"),
        (lambda: Point("rmse"), "head.loss must be one of mse, mae, huber, got 'rmse'"),  # type: ignore[arg-type]
        (lambda: Quantiles([0.9, 0.5, 0.1]), "must ascend and lie between 0 and 1"),
        (lambda: Quantiles([0.5, 0.5]), "must ascend"),
        (lambda: Quantiles([0.0, 0.5]), "between 0 and 1"),
        (lambda: Quantiles([0.5, 1.0]), "between 0 and 1"),
        (lambda: Quantiles([0.5, math.nan]), "between 0 and 1"),
        (lambda: Quantiles([0.1, 0.9]), "must hold 0.5"),
        (lambda: Quantiles([]), "must hold 0.5"),
    ],
)
def test_heads_that_make_no_sense_are_refused(make: Callable[[], HeadConfig], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

"""Sums and counts: the same mean however a batch is cut, and nothing from what is masked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from core.nn.losses import (
    MeanOver,
    SummedLoss,
    absolute_error,
    huber_error,
    pinball_error,
    squared_error,
    summed_loss,
)

ERRORS = [squared_error, absolute_error, partial(huber_error, delta=0.7)]
means = st.sampled_from(["token", "sequence"])
lengths_lists = st.lists(st.integers(0, 5), min_size=2, max_size=6)


def mask_of(lengths: list[int], *, num_steps: int = 5) -> Tensor:
    return torch.arange(num_steps) < torch.tensor(lengths).unsqueeze(1)


@settings(deadline=None)
@given(lengths=lengths_lists, mean=means)
def test_the_mean_is_the_notes_formula(lengths: list[int], mean: MeanOver) -> None:
    """N4, written with loops."""
    loss = torch.rand(len(lengths), 5, dtype=torch.float64)
    total = summed_loss(loss, mask=mask_of(lengths), mean=mean)
    sequences = [loss[row, :length] for row, length in enumerate(lengths) if length]
    if mean == "token":
        expected_sum, expected_count = sum(float(s.sum()) for s in sequences), sum(len(s) for s in sequences)
    else:
        expected_sum, expected_count = sum(float(s.mean()) for s in sequences), len(sequences)
    assert float(total.sum) == pytest.approx(expected_sum, abs=1e-12)
    assert float(total.count) == expected_count


@settings(deadline=None)
@given(lengths=lengths_lists, mean=means, data=st.data())
def test_pieces_add_up_to_the_whole(lengths: list[int], mean: MeanOver, data: st.DataObject) -> None:
    """Contract 4: accumulation and processes do not change the loss."""
    cut = data.draw(st.integers(1, len(lengths) - 1))
    loss, mask = torch.rand(len(lengths), 5, dtype=torch.float64), mask_of(lengths)
    whole = summed_loss(loss, mask=mask, mean=mean)
    first, second = (summed_loss(loss[part], mask=mask[part], mean=mean) for part in (slice(cut), slice(cut, None)))
    torch.testing.assert_close(SummedLoss(first.sum + second.sum, first.count + second.count), whole)


@settings(deadline=None)
@given(lengths=lengths_lists, mean=means)
def test_fillers_change_nothing(lengths: list[int], mean: MeanOver) -> None:
    """An example of weight 0 stands in where a process has none left; even a NaN loss stays out."""
    loss, mask = torch.rand(len(lengths), 5, dtype=torch.float64), mask_of(lengths)
    weight = torch.tensor([1.0] * len(lengths) + [0.0], dtype=torch.float64)
    filled = torch.cat([loss, torch.full((1, 5), torch.nan, dtype=torch.float64)]).requires_grad_()
    filled_mask = torch.cat([mask, torch.ones(1, 5, dtype=torch.bool)])
    total = summed_loss(filled, mask=filled_mask, mean=mean, weight=weight)
    torch.testing.assert_close(SummedLoss(*(t.detach() for t in total)), summed_loss(loss, mask=mask, mean=mean))
    total.sum.backward()
    assert torch.isfinite(filled.grad).all()
    assert not filled.grad[-1].any()


@settings(deadline=None)
@given(lengths=lengths_lists, error=st.sampled_from(ERRORS), junk=st.sampled_from([torch.nan, torch.inf]))
def test_a_masked_target_reaches_neither_value_nor_gradient(
    lengths: list[int], error: Callable[..., Tensor], junk: float
) -> None:
    prediction = torch.randn(len(lengths), 5, dtype=torch.float64, requires_grad=True)
    clean, mask = torch.randn(len(lengths), 5, dtype=torch.float64), mask_of(lengths)
    target = clean.masked_fill(~mask, junk)
    values = error(prediction, target, mask=mask)
    torch.testing.assert_close(values[mask], error(prediction, clean, mask=torch.ones_like(mask))[mask])
    assert not values[~mask].any()
    (gradient,) = torch.autograd.grad(values.sum(), prediction)
    (expected,) = torch.autograd.grad(error(prediction, clean, mask=torch.ones_like(mask))[mask].sum(), prediction)
    torch.testing.assert_close(gradient, expected)


def test_elementwise_losses_are_torchs() -> None:
    prediction, target = torch.randn(2, 7, 3, dtype=torch.float64) * 3
    mask = torch.ones(7, 3, dtype=torch.bool)
    torch.testing.assert_close(
        squared_error(prediction, target, mask=mask), F.mse_loss(prediction, target, reduction="none")
    )
    torch.testing.assert_close(
        absolute_error(prediction, target, mask=mask), F.l1_loss(prediction, target, reduction="none")
    )
    torch.testing.assert_close(
        huber_error(prediction, target, mask=mask, delta=0.7),
        F.huber_loss(prediction, target, reduction="none", delta=0.7),
    )


@settings(deadline=None, max_examples=20)
@given(level=st.sampled_from([0.1, 0.25, 0.5, 0.9]), seed=st.integers(0, 1000))
def test_the_quantile_minimises_the_pinball_loss(level: float, seed: int) -> None:
    target = torch.randn(101, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    candidates = target.sort().values
    losses = pinball_error(
        candidates.reshape(-1, 1, 1).expand(-1, 101, 1),
        target.expand(101, 101),
        mask=torch.ones(101, 101, dtype=torch.bool),
        levels=[level],
    ).mean(1)
    assert candidates[losses.argmin()] == torch.quantile(target, level, interpolation="higher")


def test_pinball_is_a_mean_over_its_levels_and_keeps_nan_out() -> None:
    levels = [0.1, 0.5, 0.9]
    prediction = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    target, mask = torch.randn(2, 4, dtype=torch.float64), mask_of([4, 2], num_steps=4)
    values = pinball_error(prediction, target.masked_fill(~mask, torch.nan), mask=mask, levels=levels)
    single = [
        pinball_error(prediction[..., i : i + 1], target, mask=mask, levels=[level]) for i, level in enumerate(levels)
    ]
    torch.testing.assert_close(values, torch.stack(single).mean(0))
    # Half the absolute error at the median.
    torch.testing.assert_close(single[1], absolute_error(prediction[..., 1], target, mask=mask) / 2)
    (gradient,) = torch.autograd.grad(values.sum(), prediction)
    assert torch.isfinite(gradient).all()
    assert not gradient[~mask].any()


def test_half_precision_is_summed_in_float32() -> None:
    """300 ones sum to 256 in bf16."""
    loss = torch.ones(1, 300, dtype=torch.bfloat16)
    total = summed_loss(loss, mask=torch.ones(1, 300, dtype=torch.bool), mean="token")
    assert (total.sum.dtype, float(total.sum), float(total.count)) == (torch.float32, 300.0, 300.0)


@pytest.mark.usefixtures("as_shipped")
def test_bad_arguments_are_refused() -> None:
    loss, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="token, sequence, got 'batch'"):
        summed_loss(loss, mask=mask, mean="batch")
    with pytest.raises(ValueError, match=r"loss and mask must have the same shape, got \(2, 3\) and \(2,\)"):
        summed_loss(loss, mask=mask[:, 0], mean="token")
    with pytest.raises(ValueError, match=r"weight must have .* shape \(2,\), got \(3,\)"):
        summed_loss(loss, mask=mask, mean="token", weight=torch.ones(3))
    with pytest.raises(ValueError, match=r"prediction and target .* \(2, 3\) and \(2, 1\)"):
        squared_error(loss, loss[:, :1], mask=mask)
    with pytest.raises(ValueError, match="delta must be positive, got 0"):
        huber_error(loss, loss, mask=mask, delta=0.0)
    with pytest.raises(ValueError, match=r"levels must lie in \(0, 1\).*1.0"):
        pinball_error(loss.unsqueeze(-1), loss, mask=mask, levels=[1.0])
    with pytest.raises(ValueError, match=r"each of the 2 levels .* \(2, 3, 1\)"):
        pinball_error(loss.unsqueeze(-1), loss, mask=mask, levels=[0.1, 0.9])
    with pytest.raises(ValueError, match=r"target .* prediction .* \(2, 2\) and \(2, 3\)"):
        pinball_error(loss.unsqueeze(-1), loss[:, :2], mask=mask, levels=[0.5])
    with pytest.raises(ValueError, match=r"prediction .* mask .* \(2, 3\) and \(1, 3\)"):
        pinball_error(loss.unsqueeze(-1), loss, mask=mask[:1], levels=[0.5])
    with pytest.raises(ValueError, match=r"loss must be floating point, got torch\.int64"):
        summed_loss(loss.long(), mask=mask, mean="token")
    with pytest.raises(ValueError, match="weight must be on cpu, where loss is, got meta"):
        summed_loss(loss, mask=mask, mean="token", weight=torch.ones(2, device="meta"))
    with pytest.raises(ValueError, match="target must be on cpu, where prediction is, got meta"):
        squared_error(loss, loss.to("meta"), mask=mask)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    "reduce",
    [
        lambda loss, mask: summed_loss(loss, mask=mask, mean="token"),
        lambda loss, mask: squared_error(loss, loss, mask=mask),
        lambda loss, mask: huber_error(loss, loss, mask=mask),
        lambda loss, mask: pinball_error(loss.unsqueeze(-1), loss, mask=mask, levels=[0.5]),
    ],
    ids=["summed", "squared", "huber", "pinball"],
)
def test_a_mask_is_of_booleans_beside_what_it_masks(reduce: Any) -> None:
    loss, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    for wrong in (mask.float(), mask.long()):
        with pytest.raises(ValueError, match=r"mask must be bool, True where valid, got torch\.(float32|int64)"):
            reduce(loss, wrong)
    with pytest.raises(ValueError, match=r"mask must be on cpu, where .* is, got meta"):
        reduce(loss, mask.to("meta"))

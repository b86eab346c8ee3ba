"""Running sums: the pooled mean, however the values came."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.losses import SummedLoss
from core.training.running_sums import RunningSums

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=80)

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def alone(tensor: Tensor) -> Tensor:
    """One process has nothing to sum over."""
    return tensor


def batches(data: st.DataObject, numbers: list[float]) -> list[list[float]]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(numbers)), max_size=5), label="cuts"))
    return [list(part) for part in np.split(np.array(numbers), cuts)]


def summed(numbers: list[float]) -> SummedLoss:
    tensor = torch.tensor(numbers, dtype=torch.float64)
    return SummedLoss(tensor.sum(), torch.tensor(float(len(numbers))))


@patient
@given(numbers=values, data=st.data())
def test_the_mean_is_that_of_all_values_whatever_the_batching(numbers: list[float], data: st.DataObject) -> None:
    """Empty batches included; a mean of the batches' means would differ."""
    sums = RunningSums()
    for batch in batches(data, numbers):
        sums.add({"a": summed(batch), "b": summed([-x for x in batch])})
    mean = math.fsum(numbers) / len(numbers)
    assert sums.means(alone) == pytest.approx({"a": mean, "b": -mean}, rel=1e-9, abs=1e-9)


@patient
@given(numbers=values, data=st.data())
def test_an_interrupted_sum_goes_on(numbers: list[float], data: st.DataObject) -> None:
    """To the last bit, through a file."""
    parts = batches(data, numbers)
    stop = data.draw(st.integers(0, len(parts)), label="stop")
    whole, first, second = RunningSums(), RunningSums(), RunningSums()
    for number, batch in enumerate(parts):
        whole.add({"loss": summed(batch)})
        if number < stop:
            first.add({"loss": summed(batch)})
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for batch in parts[stop:]:
        second.add({"loss": summed(batch)})
    assert second.means(alone) == whole.means(alone)


@patient
@given(numbers=values, data=st.data())
def test_processes_are_added_before_the_quotient(numbers: list[float], data: st.DataObject) -> None:
    ranks = []
    for batch in batches(data, numbers):
        ranks.append(RunningSums())
        ranks[-1].add({"x": summed(batch), "y": summed(batch)})
    seen: list[Tensor] = []
    for rank in ranks:
        rank.means(lambda tensor: seen.append(tensor) or tensor)  # type: ignore[func-returns-value]
    total = ranks[0].means(lambda _: torch.stack(seen).sum(dim=0))
    assert total["x"] == pytest.approx(math.fsum(numbers) / len(numbers), rel=1e-9, abs=1e-9)


def test_a_sum_of_many_small_values_keeps_them() -> None:
    """In float32 a sum of 2**24 would swallow every further 1."""
    sums = RunningSums()
    sums.add({"loss": SummedLoss(torch.tensor(2.0**24), torch.tensor(1.0))})
    for _ in range(8):
        sums.add({"loss": SummedLoss(torch.tensor(1.0), torch.tensor(0.0))})
    assert sums.means(alone)["loss"] == 2**24 + 8


def test_what_was_stored_does_not_move_with_what_is_added() -> None:
    sums = RunningSums()
    sums.add({"loss": summed([1.0])})
    stored = sums.state_dict()
    sums.add({"loss": summed([5.0])})
    again = RunningSums()
    again.load_state_dict(stored)
    assert again.means(alone) == {"loss": 1.0}


def test_nothing_counted_is_nan_and_nothing_added_is_nothing() -> None:
    sums = RunningSums()
    assert sums.means(alone) == {}
    sums.add({"loss": summed([])})
    assert math.isnan(sums.means(alone)["loss"])
    sums.reset()
    assert sums.means(alone) == {}


def test_no_gradient_is_kept() -> None:
    loss = torch.ones((), requires_grad=True)
    sums = RunningSums()
    sums.add({"loss": SummedLoss(loss * 2, torch.tensor(1.0))})
    assert not sums.state_dict()["loss"].requires_grad

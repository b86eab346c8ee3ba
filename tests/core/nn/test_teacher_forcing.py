"""Schedules of scheduled sampling: the published formulas, and what they may be set to."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.nn.teacher_forcing import (
    AlwaysTrue,
    NeverTrue,
    ScheduledSamplingExponential,
    ScheduledSamplingInverseSigmoid,
    ScheduledSamplingLinear,
    TeacherForcingConfig,
    draw_true_steps,
)

SCHEDULES: list[TeacherForcingConfig] = [
    AlwaysTrue(),
    NeverTrue(),
    ScheduledSamplingLinear(slope=0.01, start=0.9, floor=0.2),
    ScheduledSamplingExponential(base=0.99),
    ScheduledSamplingInverseSigmoid(k=100.0),
]


@given(schedule=st.sampled_from(SCHEDULES), step=st.integers(0, 10**9), later=st.integers(0, 10**9))
def test_a_schedule_is_a_probability_that_never_rises(schedule: TeacherForcingConfig, step: int, later: int) -> None:
    assert 1.0 >= schedule.true_probability(step) >= schedule.true_probability(step + later) >= 0.0


def test_the_formulas_of_the_paper() -> None:
    """Bengio et al. 2015, section 2.4, at step 50."""
    assert [AlwaysTrue().true_probability(50), NeverTrue().true_probability(50)] == [1.0, 0.0]
    linear, exponential, inverse = (schedule.true_probability for schedule in SCHEDULES[2:])
    assert linear(50) == pytest.approx(0.9 - 0.01 * 50)
    assert linear(5000) == 0.2
    assert exponential(50) == pytest.approx(0.99**50)
    assert inverse(50) == pytest.approx(100 / (100 + math.exp(50 / 100)))
    assert inverse(round(100 * math.log(100))) == pytest.approx(0.5, abs=1e-2)


def test_coins_are_as_frequent_as_the_probability_and_the_first_is_true() -> None:
    torch.manual_seed(0)
    drawn = draw_true_steps(0.3, num_rows=200, num_steps=101, device=torch.device("cpu"))
    assert drawn[:, 0].all()
    assert float(drawn[:, 1:].float().mean()) == pytest.approx(0.3, abs=0.015)
    # Rows and steps are drawn apart: neither's means stray as one coin for all would.
    assert float(drawn[:, 1:].float().mean(0).std()) < 0.06
    assert float(drawn[:, 1:].float().mean(1).std()) < 0.08


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ScheduledSamplingLinear, {"slope": 0.0}, "slope must be positive, got 0.0"),
        (ScheduledSamplingLinear, {"slope": 0.1, "start": 1.1}, "floor=0.0 and start=1.1"),
        (ScheduledSamplingLinear, {"slope": 0.1, "start": 0.5, "floor": 0.5}, "floor=0.5 and start=0.5"),
        (ScheduledSamplingExponential, {"base": 1.0}, r"base must be in \(0, 1\), got 1.0"),
        (ScheduledSamplingInverseSigmoid, {"k": 0.5}, "k must be at least 1, got 0.5"),
    ],
)
def test_settings_that_are_wrong_are_refused(kind: Any, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)

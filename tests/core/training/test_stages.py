"""Which stage an epoch belongs to, and how fast each part of the network learns in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.optimisation import Constant, Cosine
from core.training.stages import Stages, TrainingStage

THREE = Stages(
    [
        TrainingStage(epochs=2),
        TrainingStage(epochs=3, lr=0.01, encoder_lr=0.001),
        TrainingStage(epochs=1),
    ]
)


def test_epochs_belong_to_the_stages_in_order_and_the_last_one_goes_on() -> None:
    assert [THREE.stages.index(THREE.at(epoch)) for epoch in range(9)] == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert THREE.num_epochs == 6
    assert [THREE.num_reached(epochs) for epochs in (0.5, 2, 2.1, 5, 6, 9)] == [1, 1, 2, 2, 3, 3]
    assert THREE.frozen_epochs == 2
    assert Stages([TrainingStage(epochs=4)]).frozen_epochs is None
    assert Stages([TrainingStage(epochs=4, encoder_lr=0.1)]).frozen_epochs == 0


@given(step=st.integers(0, 59))
def test_rates_are_those_of_the_stage(step: int) -> None:
    """60 steps of 10 an epoch; the optimiser's own rate where a stage names none."""
    own, encoder = THREE.rates(Constant(), step=step, num_steps=60, steps_an_epoch=10, peak=0.02)
    expected = (0.02, 0.0) if step < 20 or step >= 50 else (0.01, 0.001)
    assert (own * 0.02, encoder * 0.02) == pytest.approx(expected)


def test_the_schedule_begins_anew_in_each_stage_and_ends_where_it_does() -> None:
    """A cosine that ran over all stages would begin the second near its floor."""
    schedule = Cosine(warmup_share=0.0, floor=0.1)
    rates = [THREE.rates(schedule, step=step, num_steps=80, steps_an_epoch=10, peak=0.02) for step in range(80)]
    for begin, end in ((0, 20), (20, 50), (50, 80)):  # the last stage lasts as long as the run
        peak = rates[begin][0]
        assert rates[end - 1][0] == pytest.approx(0.1 * peak)
        assert all(later[0] < earlier[0] for earlier, later in zip(rates[begin:], rates[begin + 1 : end], strict=False))
    assert rates[20][1] == pytest.approx(0.001 / 0.02)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrainingStage(epochs=0), "epochs of a stage must be at least 1, got 0"),
        (lambda: TrainingStage(epochs=1, lr=0.0), "lr of a stage must be positive, or null, got 0"),
        (lambda: TrainingStage(epochs=1, encoder_lr=-1.0), "encoder_lr of a stage must be positive, or null, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

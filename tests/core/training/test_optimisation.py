"""Optimiser groups and the shapes of the schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.training.optimisation import (
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    OptimizerConfig,
    Part,
    ScheduleConfig,
)

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=100)


def factors(schedule: ScheduleConfig, num_steps: int, *, steps_an_epoch: int = 10) -> list[float]:
    return [schedule.factor(step=s, num_steps=num_steps, steps_an_epoch=steps_an_epoch) for s in range(num_steps)]


def test_constant() -> None:
    assert set(factors(Constant(), 50)) == {1.0}


@patient
@given(
    constant_epochs=st.integers(0, 6),
    decay=st.floats(0.1, 1),
    steps_an_epoch=st.integers(1, 7),
    epochs=st.integers(1, 12),
)
def test_exponential_multiplies_before_each_epoch_after_the_constant_ones(
    constant_epochs: int, decay: float, steps_an_epoch: int, epochs: int
) -> None:
    schedule = Exponential(constant_epochs=constant_epochs, decay=decay)
    expected, rate = [], 1.0
    for epoch in range(epochs):
        if epoch >= constant_epochs:
            rate *= decay
        expected += [rate] * steps_an_epoch
    assert factors(schedule, epochs * steps_an_epoch, steps_an_epoch=steps_an_epoch) == pytest.approx(expected)


@given(warmup_steps=st.integers(1, 300))
def test_inverse_square_root_rises_in_a_line_and_falls_with_the_root(warmup_steps: int) -> None:
    curve = factors(InverseSquareRoot(warmup_steps=warmup_steps), 5 * warmup_steps)
    assert curve[:warmup_steps] == pytest.approx([(step + 1) / warmup_steps for step in range(warmup_steps)])
    assert curve[4 * warmup_steps - 1] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(curve[warmup_steps:]))


@patient
@given(num_steps=st.integers(1, 400), warmup_share=st.floats(0, 0.9), floor=st.floats(0, 1))
def test_cosine_rises_to_one_and_falls_to_its_floor(num_steps: int, warmup_share: float, floor: float) -> None:
    schedule = Cosine(warmup_share=warmup_share, floor=floor)
    curve = factors(schedule, num_steps)
    warmup = warmup_share * num_steps
    rising, falling = curve[: -int(-warmup // 1)], curve[-int(-warmup // 1) :]
    assert all(0 < factor <= 1 for factor in rising)
    assert all(floor - 1e-12 <= factor <= 1 for factor in falling)
    assert all(later > earlier for earlier, later in pairwise(rising))
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(falling))
    # Even where warm-up and fall meet, no step is larger than the steepest of either part.
    steepest = max(1 / (warmup + 1), 1.6 / max(num_steps - 1 - warmup, 1)) + 1e-12
    assert all(abs(later - earlier) <= steepest for earlier, later in pairwise(curve))
    if len(falling) > 1:
        assert falling[-1] == pytest.approx(floor, abs=1e-12)
    # Steps beyond the planned ones (a resumed run with one more) stay at the floor.
    if falling:
        after = schedule.factor(step=num_steps + 5, num_steps=num_steps, steps_an_epoch=10)
        assert after == pytest.approx(floor if num_steps - 1 > warmup else 1.0)


@pytest.mark.parametrize(("num_steps", "warmup_share"), [(100, 0.1), (100, 0.0), (20, 0.5), (8, 0.125)])
def test_cosine_reaches_one_when_the_warmup_is_over(num_steps: int, warmup_share: float) -> None:
    curve = factors(Cosine(warmup_share=warmup_share, floor=0.2), num_steps)
    peak = int(num_steps * warmup_share)
    assert curve[peak] == max(curve) == 1.0
    assert curve[-1] == pytest.approx(0.2)
    assert [len({round(b - a, 9) for a, b in pairwise(curve[: peak + 1])})] in ([0], [1])


def test_only_what_depends_on_the_number_of_steps_says_so() -> None:
    """A resumed run may be made longer unless its schedule would bend."""
    for schedule in (Constant(), Exponential(), Cosine()):
        differs = [schedule.factor(step=30, num_steps=n, steps_an_epoch=10) for n in (40, 80)]
        assert (differs[0] != differs[1]) == schedule.depends_on_num_steps


# Optimisers -----------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.recurrent = nn.LSTM(4, 6)
        self.norm = nn.LayerNorm(6)
        self.output = nn.Linear(6, 2)
        self.gain = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def built(config: OptimizerConfig, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    optimizer, _ = config.build([Part(list(named), lambda step: 1.0)])
    return optimizer


def test_each_part_has_a_rate_of_its_own() -> None:
    """An encoder that is fine-tuned moves a tenth as fast, or not at all."""
    network = Network()
    parts = [
        Part([(name, each) for name, each in network.named_parameters() if name.startswith("output") == chosen], factor)
        for chosen, factor in ((False, lambda step: 1.0 / (step + 1)), (True, lambda step: 0.0))
    ]
    optimizer, factors = OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.3).build(parts)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    for _ in range(2):
        for each in network.parameters():
            each.grad = torch.ones_like(each) if each.requires_grad else None
        optimizer.step()
        scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.1 / 3, 0.0}
    moved = {name for name, each in network.named_parameters() if not torch.equal(each, before[name])}
    frozen = {"output.weight", "output.bias", "frozen.weight", "frozen.bias"}
    assert moved == set(before) - frozen


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_do_not_decay_and_frozen_weights_are_left_out(name: str) -> None:
    network = Network()
    optimizer = built(OptimizerConfig(name=name, lr=0.1, weight_decay=0.3), network.named_parameters())  # type: ignore[arg-type]
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    groups = {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in optimizer.param_groups}
    assert groups == {
        0.3: {"embedding.weight", "recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "output.weight"},
        0.0: {"recurrent.bias_ih_l0", "recurrent.bias_hh_l0", "norm.weight", "norm.bias", "output.bias", "gain"},
    }


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD")])
def test_the_named_optimiser_takes_the_step_of_torchs_own(name: str, kind: str) -> None:
    torch.manual_seed(0)
    inputs, rate = torch.randn(7, 3), 0.05
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = built(OptimizerConfig(name=name, lr=rate), ours.named_parameters())  # type: ignore[arg-type]
    assert type(optimizer).__name__ == kind
    extra = {"momentum": 0.9, "nesterov": True} if kind == "SGD" else {"weight_decay": 0.0}
    reference = getattr(torch.optim, kind)(theirs.parameters(), lr=rate, **extra)
    for _ in range(3):
        for model, one in ((ours, optimizer), (theirs, reference)):
            one.zero_grad()
            model(inputs).square().sum().backward()
            one.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_network_with_biases_alone_has_one_group() -> None:
    parameters = [("bias", nn.Parameter(torch.zeros(3)))]
    assert len(built(OptimizerConfig(name="adamw", weight_decay=0.1), parameters).param_groups) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimizerConfig(name="lion"), "optimizer.name must be one of adam, adamw, sgd, got 'lion'"),  # type: ignore[arg-type]
        (lambda: OptimizerConfig(lr=0.0), r"optimizer\.lr must be positive, got 0"),
        (lambda: OptimizerConfig(name="sgd", weight_decay=-1.0), "cannot be negative, got -1"),
        (lambda: OptimizerConfig(weight_decay=0.1), "Set optimizer.name to adamw or weight_decay to 0"),
        (lambda: Exponential(constant_epochs=-1), "constant_epochs cannot be negative, got -1"),
        (lambda: InverseSquareRoot(warmup_steps=0), "warmup_steps must be at least 1, got 0"),
        (lambda: Exponential(decay=0.0), "decay must be above 0 and at most 1, got 0"),
        (lambda: Exponential(decay=1.1), "decay must be above 0 and at most 1, got 1.1"),
        (lambda: Cosine(warmup_share=1.0), "warmup_share must be at least 0 and below 1, got 1"),
        (lambda: Cosine(floor=-0.1), "floor must be between 0 and 1, got -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

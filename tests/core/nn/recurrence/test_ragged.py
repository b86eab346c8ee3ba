"""The layout of ragged batches: every valid step once, at the least cost."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.recurrence.ragged import Block, RaggedPlan, cut_blocks, plan_blocks, plan_rectangle

lengths_lists = st.lists(st.integers(0, 9), min_size=1, max_size=7)
costs = st.sampled_from([0.0, 1.0, 5.0, 1e9])


def total_cost(blocks: tuple[Block, ...], *, block_cost: float) -> float:
    return sum(block.size + block_cost for block in blocks)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=80), block_cost=costs)
def test_blocks_hold_every_valid_step(lengths: list[int], block_cost: float) -> None:
    """More distinct lengths than the search considers are covered too."""
    blocks = cut_blocks(lengths, block_cost=block_cost)
    assert sum(block.stop - block.start for block in blocks) == max(lengths)
    for before, after in pairwise(blocks):
        assert before.stop == after.start
        assert before.num_rows >= after.num_rows
    for block in blocks:
        assert block.num_rows == sum(length > block.start for length in lengths)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7), block_cost=costs)
def test_no_other_cut_is_cheaper(lengths: list[int], block_cost: float) -> None:
    """Against every subset of cuts."""
    inner = range(1, max(lengths))
    cheapest = min(
        sum(
            (stop - start) * sum(length > start for length in lengths) + block_cost
            for start, stop in zip([0, *cuts], [*cuts, max(lengths)], strict=True)
        )
        for num_cuts in range(len(inner) + 1)
        for cuts in combinations(inner, num_cuts)
    )
    assert total_cost(cut_blocks(lengths, block_cost=block_cost), block_cost=block_cost) == pytest.approx(cheapest)


def test_free_blocks_leave_no_padding_and_dear_ones_are_one() -> None:
    lengths = [7, 2, 5]
    assert cut_blocks(lengths, block_cost=0.0) == (Block(0, 2, 3), Block(2, 5, 2), Block(5, 7, 1))
    assert cut_blocks(lengths, block_cost=1e9) == (Block(0, 7, 3),)
    assert cut_blocks([0, 0], block_cost=0.0) == ()


def plans(lengths: torch.Tensor, *, num_steps: int, block_cost: float) -> list[RaggedPlan]:
    return [
        plan_blocks(lengths, num_steps=num_steps, block_cost=block_cost),
        plan_rectangle(lengths, num_steps=num_steps),
    ]


@settings(deadline=None)
@given(lengths=lengths_lists, extra=st.integers(0, 3), block_cost=costs)
def test_there_and_back(lengths: list[int], extra: int, block_cost: float) -> None:
    num_steps = max(1, *lengths) + extra
    inputs = torch.randn(len(lengths), num_steps, 3)
    expected, backwards = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for row, length in enumerate(lengths):
        expected[row, :length] = inputs[row, :length]
        backwards[row, :length] = inputs[row, :length].flip(0)
        inputs[row, length:] = torch.nan
    for plan in plans(torch.tensor(lengths), num_steps=num_steps, block_cost=block_cost):
        flat = plan.gather(inputs)
        assert torch.isfinite(flat).all()
        assert torch.equal(plan.scatter(flat, num_steps=num_steps), expected)
        assert torch.equal(plan.scatter(plan.reverse(flat), num_steps=num_steps), backwards)
        assert torch.equal(plan.reverse(plan.reverse(flat)), flat)
        assert int(plan.last.max()) < flat.shape[0]
        assert plan.has_padding or bool(plan.valid.all())
        for row, length in enumerate(lengths):
            assert not length or torch.equal(flat[plan.last[row]], inputs[row, length - 1])


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4), block_cost=costs)
def test_gradients_take_the_way_back(lengths: list[int], block_cost: float) -> None:
    """First and second derivatives of the hand-written backward."""
    num_steps = max(1, *lengths) + 1
    inputs = torch.randn(len(lengths), num_steps, 2, dtype=torch.float64, requires_grad=True)
    for plan in plans(torch.tensor(lengths), num_steps=num_steps, block_cost=block_cost):

        def there_and_back(inputs: torch.Tensor, plan: RaggedPlan = plan) -> torch.Tensor:
            return plan.scatter(plan.reverse(plan.gather(inputs)).square(), num_steps=num_steps)

        assert torch.autograd.gradcheck(there_and_back, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(there_and_back, inputs, fast_mode=True)

"""The batch plan (contract 3): a function of (seed, epoch), cut only afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import BatchPlan, PieceSampler


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=120))
    by_tokens = draw(st.booleans())
    return BatchPlan(
        len(lengths),
        batch_size=None if by_tokens else draw(st.integers(1, 40)),
        token_budget=draw(st.integers(30, 200)) if by_tokens else None,
        lengths=lengths if by_tokens or draw(st.booleans()) else None,
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 5)),
    )


@st.composite
def pair_plans(draw: st.DrawFn) -> BatchPlan:
    lengths = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=120))
    by_tokens = draw(st.booleans())
    return BatchPlan(
        len(lengths),
        batch_size=None if by_tokens else draw(st.integers(1, 40)),
        token_budget=draw(st.integers(30, 200)) if by_tokens else None,
        lengths=lengths,
        shuffle=draw(st.booleans()),
        seed=draw(st.integers(0, 5)),
    )


@given(plan=plans(), epoch=st.integers(0, 3))
def test_every_example_is_planned_exactly_once(plan: BatchPlan, epoch: int) -> None:
    batches = plan.batches(epoch)
    assert sorted(np.concatenate(batches)) == list(range(plan.num_examples))
    assert len(batches) == plan.num_batches
    assert all(len(batch) for batch in batches)


@given(plan=plans(), num_ranks=st.integers(1, 4), accumulation=st.integers(1, 3), epoch=st.integers(0, 2))
def test_pieces_of_any_cut_make_up_the_same_global_batches(
    plan: BatchPlan, num_ranks: int, accumulation: int, epoch: int
) -> None:
    dealt = []
    for rank in range(num_ranks):
        sampler = PieceSampler(plan, num_ranks=num_ranks, rank=rank, accumulation=accumulation)
        sampler.set_epoch(epoch)
        dealt.append(list(sampler))
        assert len(dealt[-1]) == len(sampler)  # all ranks take the same number of steps
    for number, batch in enumerate(plan.batches(epoch)):
        steps = slice(number * accumulation, (number + 1) * accumulation)
        pieces = [piece for rank in range(num_ranks) for piece in dealt[rank][steps]]
        real = [piece.indices for piece in pieces if piece.weight]
        assert sorted(np.concatenate(real)) == sorted(batch)
        assert max(map(len, real)) - min(map(len, real)) <= 1
        assert all(len(piece.indices) == 1 for piece in pieces if not piece.weight)


@given(plan=plans(), epoch=st.integers(0, 2), data=st.data())
def test_a_resumed_epoch_is_the_rest_of_the_whole_one(plan: BatchPlan, epoch: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, plan.num_batches))
    whole, resumed = PieceSampler(plan, accumulation=2), PieceSampler(plan, accumulation=2)
    whole.set_epoch(epoch)
    resumed.start_at(epoch, done)
    expected = list(whole)[2 * done :]
    actual = list(resumed)
    assert [piece.indices.tolist() for piece in actual] == [piece.indices.tolist() for piece in expected]
    assert len(resumed) == len(whole)
    resumed.set_epoch(epoch + 1)
    assert len(list(resumed)) == len(whole)  # only the interrupted epoch is short


def test_seed_and_epoch_are_separate_streams() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(BatchPlan(50, batch_size=7, shuffle=True, seed=seed).batches(epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(2, 1)
    assert order(1, 2) != order(1, 3)


@settings(max_examples=50)
@given(plan=plans())
def test_a_token_budget_is_kept(plan: BatchPlan) -> None:
    if plan.token_budget is None or plan.lengths is None:
        return
    for batch in plan.batches(0):
        assert len(batch) * max(plan.lengths[batch].max(), 1) <= plan.token_budget


@settings(max_examples=50)
@given(plan=pair_plans(), epoch=st.integers(0, 2))
def test_a_token_budget_bounds_the_longer_side_of_pairs(plan: BatchPlan, epoch: int) -> None:
    assert plan.lengths is not None
    batches = plan.batches(epoch)
    assert sorted(np.concatenate(batches)) == list(range(plan.num_examples))
    assert len(batches) == plan.num_batches
    if plan.token_budget is not None:
        for batch in batches:
            assert len(batch) * max(plan.lengths[batch].max(), 1) <= plan.token_budget


@settings(max_examples=50)
@given(plan=pair_plans(), epoch=st.integers(0, 2))
def test_padding_waste_is_that_of_both_sides(plan: BatchPlan, epoch: int) -> None:
    assert plan.lengths is not None
    padded = real = 0
    for batch in plan.batches(epoch):
        for side in (0, 1):
            longest = max(plan.lengths[index, side] for index in batch)
            padded += longest * len(batch)
            real += sum(plan.lengths[index, side] for index in batch)
    assert plan.padding_waste(epoch) == pytest.approx(1 - real / max(padded, 1))


@settings(max_examples=50)
@given(plan=plans(), epoch=st.integers(0, 2))
def test_one_length_an_example_makes_the_batches_it_always_made(plan: BatchPlan, epoch: int) -> None:
    """Runs under way must resume: sorted by length alone, equal lengths in the order drawn."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((plan.seed, epoch))))
    order = np.arange(plan.num_examples)
    if plan.shuffle:
        order = generator.permutation(plan.num_examples)
    if plan.token_budget is not None:
        assert plan.lengths is not None
        order = order[np.argsort(plan.lengths[order], kind="stable")]
        batches: list[list[int]] = [[]]
        for index in order.tolist():
            if (len(batches[-1]) + 1) * max(plan.lengths[index], 1) > plan.token_budget:
                batches.append([])
            batches[-1].append(index)
    else:
        assert plan.batch_size is not None
        if plan.shuffle and plan.lengths is not None:
            pools = np.split(order, np.arange(64 * plan.batch_size, plan.num_examples, 64 * plan.batch_size))
            order = np.concatenate([pool[np.argsort(plan.lengths[pool], kind="stable")] for pool in pools])
        batches = [order[start : start + plan.batch_size].tolist() for start in range(0, len(order), plan.batch_size)]
    if plan.shuffle and plan.lengths is not None:
        batches = [batches[position] for position in generator.permutation(len(batches))]
    assert [batch.tolist() for batch in plan.batches(epoch)] == batches


def test_pairs_are_bucketed_by_both_sides() -> None:
    """Lengths as of English and German: a pair's sides go together, but not in step."""
    generator = np.random.default_rng(0)
    source = generator.poisson(14, size=20_000) + 1
    lengths = np.stack([source, generator.poisson(source) + 1], axis=1)
    bucketed = BatchPlan(len(lengths), token_budget=4096, lengths=lengths, shuffle=True, seed=0)
    by_count = BatchPlan(len(lengths), batch_size=80, lengths=lengths, shuffle=True, seed=0)
    assert bucketed.padding_waste() < 0.06
    assert by_count.padding_waste() < 0.09


def test_bucketing_wastes_little_on_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 60, size=20_000)
    bucketed = BatchPlan(len(lengths), token_budget=4000, lengths=lengths, shuffle=True, seed=0)
    by_count = BatchPlan(len(lengths), batch_size=64, lengths=lengths, shuffle=True, seed=0)
    assert bucketed.padding_waste() < 0.02
    assert by_count.padding_waste() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 0, "batch_size": 1}, "at least one example"),
        ({"num_examples": 3}, "either batch_size or token_budget"),
        ({"num_examples": 3, "batch_size": 1, "token_budget": 5}, "either batch_size or token_budget"),
        ({"num_examples": 3, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_examples": 2, "token_budget": 5, "lengths": [3, 9]}, "Example 1 has 9 steps"),
        ({"num_examples": 2, "token_budget": 5}, "needs the lengths"),
        ({"num_examples": 2, "batch_size": 5, "lengths": [3]}, "one length for each of 2"),
        ({"num_examples": 2, "batch_size": 5, "lengths": [3, -1]}, "cannot be negative, got -1 for example 1"),
        (
            {"num_examples": 2, "batch_size": 5, "lengths": [[3, 1], [-2, 4]]},
            "cannot be negative, got -2 for example 1",
        ),
        (
            {"num_examples": 2, "batch_size": 5, "lengths": [[3, 1, 1]] * 2},
            r"each of its two sides, got shape \(2, 3\)",
        ),
        ({"num_examples": 2, "token_budget": 8, "lengths": [[3, 9], [1, 1]]}, "Example 0 has 9 steps"),
    ],
)
def test_contradictions_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchPlan(**arguments, shuffle=True, seed=0)

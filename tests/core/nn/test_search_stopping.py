"""When a search ends, and which rows it steps until then."""

import math
from unittest import mock

import pytest
import torch
from torch import Tensor

from core.nn.search import BeamConfig
from core.nn.searching import beam_search
from core.nn.step_decoder import StepOutput
from tests.core.nn.search_cases import SPECIAL, TableDecoder, TableState, World, run


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, -0.5])
def test_an_example_stops_once_no_live_hypothesis_can_win(length_penalty: float) -> None:
    """Fewer rows are stepped than without the bound, and the result is the same."""
    world = World.make(3, source_lengths=[4, 2, 5, 3], num_words=5)
    world.logits[:, :, SPECIAL.eos] += 1.0
    config = BeamConfig(
        beam_size=4, num_best=2, max_length=25, length_penalty=length_penalty, coverage_penalty=0.3, patience=math.inf
    )
    stopping, going_on = TableDecoder(world), TableDecoder(world)
    early = run(world, config, decoder=stopping)
    with mock.patch.object(beam_search, "_attainable", side_effect=lambda totals, *rest: torch.zeros_like(totals) + 1):
        late = run(world, config, decoder=going_on)
    assert sum(stopping.num_rows) < sum(going_on.num_rows) / 1.5
    assert len(going_on.num_rows) == config.max_length
    for got, expected in zip(early, late, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("length_penalty", "ends_first", "goes_on_until"), [(1.0, 0.6, 10), (-1.0, 0.3, 2), (0.0, 0.3, 40), (0.0, 0.6, 1)]
)
def test_a_hypothesis_that_can_still_win_is_waited_for(
    length_penalty: float, ends_first: float, goes_on_until: int
) -> None:
    """At the first step an end, or a word after which the rest is all but certain: who wins is known from the numbers.

    A long hypothesis wins by a length penalty above 0, a short one by one below 0; at 40 tokens the bound of the one would
    give up the other.
    """

    class Chain:
        """Ends at once with the one probability, or else after `goes_on_until` tokens."""

        num_steps = 0

        def step(self, tokens: Tensor, state: TableState) -> StepOutput[TableState]:
            self.num_steps += 1
            ending = ends_first if self.num_steps == 1 else float(self.num_steps >= max(goes_on_until, 2))
            chances = torch.full((len(tokens), 6), 1e-9, dtype=torch.float64)
            chances[:, SPECIAL.eos] += ending
            chances[:, 4] += 1 - ending
            return StepOutput(chances.log(), state, None)

        def start(self) -> TableState:
            return TableState(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))

    config = BeamConfig(beam_size=2, max_length=40, length_penalty=length_penalty, patience=math.inf)
    world = World.make(0, source_lengths=[3], num_words=2)
    assert run(world, config, decoder=Chain()).lengths.tolist() == [[goes_on_until]]


def test_examples_that_are_done_leave_the_batch() -> None:
    """One row an example at first, then beam_size, and fewer examples as they end."""
    world = World.make(0, source_lengths=[2, 6, 4], num_words=4)
    world.logits[:, :, SPECIAL.eos] = -30.0
    config = BeamConfig(beam_size=3, max_length=50, max_length_ratio=1.0)
    decoder = TableDecoder(world)
    found = run(world, config, decoder=decoder)
    assert decoder.num_rows == [3, 9, 6, 6, 3, 3]
    assert found.lengths.flatten().tolist() == [2, 6, 4]
    assert not found.finished.any()


def test_forced_steps_are_taken_with_one_row() -> None:
    world = World.make(0, source_lengths=[2, 6], num_words=4)
    decoder = TableDecoder(world)
    run(world, BeamConfig(beam_size=3, max_length=4, patience=math.inf), [[4, 5], [6, 4, 4]], decoder=decoder)
    assert decoder.num_rows == [2, 2, 2, 6]

"""Greedy and beam search against every sequence there is, and against a beam written with plain lists."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.search import BeamConfig, GreedyConfig, Hypotheses, SearchConfig, SpecialTokens
from core.nn.step_decoder import StepOutput
from tests.core.nn.search_cases import SPECIAL, Path, Recipe, TableDecoder, TableState, World, recipes, run


def assert_are(found: Hypotheses, expected: list[list[Path]], *, pad: int = SPECIAL.pad) -> None:
    num_steps = found.tokens.shape[-1]
    for example, paths in enumerate(expected):
        for place in range(found.tokens.shape[1]):
            tokens, length = found.tokens[example, place].tolist(), int(found.lengths[example, place])
            if place >= len(paths):
                assert length == 0
                assert not found.finished[example, place]
                assert float(found.scores[example, place]) == -math.inf
                assert tokens == [pad] * num_steps
                continue
            path = paths[place]
            assert tokens == [*path.tokens, *[pad] * (num_steps - len(path.tokens))]
            assert length == len(path.tokens)
            assert bool(found.finished[example, place]) == path.finished
            assert float(found.scores[example, place]) == pytest.approx(path.score, abs=1e-12)
            assert float(found.log_probabilities[example, place]) == pytest.approx(path.total, abs=1e-12)
            if found.attention is not None:
                weights = found.attention[example, place]
                torch.testing.assert_close(weights[:length], torch.tensor(path.attention, dtype=torch.float64))
                assert not weights[length:].any()


@settings(deadline=None, max_examples=150)
@given(recipe=recipes(max_words=3, max_length=4, beam_size=130, max_examples=2))
def test_a_beam_as_wide_as_the_space_finds_the_best_of_all(recipe: Recipe) -> None:
    """n-best, scores, attention: with every penalty and rule, of at most 3 + 9 + 27 + 2 x 81 hypotheses.

    `ties` is off: between equal scores the order of the space is not that of the beam.
    """
    recipe = recipe._replace(ties=False)
    world = recipe.world()
    best = [
        sorted(rules.everything(Path()), key=lambda path: -path.score)[: recipe.config.num_best]
        for rules in recipe.rules(world)
    ]
    if not all(best):
        with pytest.raises(ValueError, match="have no hypothesis"):
            run(world, recipe.config, recipe.prefixes)
        return
    assert_are(run(world, recipe.config, recipe.prefixes), best)


@settings(deadline=None, max_examples=300)
@given(recipe=recipes())
def test_a_batch_is_a_beam_of_plain_lists_for_each_example(recipe: Recipe) -> None:
    """Every setting, ties included; the lists do not stop early, so stopping early changes nothing."""
    world = recipe.world()
    beams = [rules.beam() for rules in recipe.rules(world)]
    if not all(beams):
        with pytest.raises(ValueError, match="have no hypothesis"):
            run(world, recipe.config, recipe.prefixes)
        return
    assert_are(run(world, recipe.config, recipe.prefixes), beams)


@settings(deadline=None, max_examples=100)
@given(recipe=recipes(beam_size=1))
def test_a_beam_of_one_is_greedy(recipe: Recipe) -> None:
    config = replace(recipe.config, patience=1.0, length_penalty=0.0, coverage_penalty=0.0)
    names = ("max_length", "min_length", "max_length_ratio", "max_length_offset", "no_repeat_ngram")
    greedy_config = GreedyConfig(**{name: getattr(config, name) for name in names})
    world = recipe.world()
    if not all(rules.beam() for rules in recipe.rules(world)):
        with pytest.raises(ValueError, match="have no hypothesis"):
            run(world, greedy_config, recipe.prefixes)
        return
    greedy = run(world, greedy_config, recipe.prefixes)
    for penalised in (config, replace(config, length_penalty=1.3)):
        beam = run(world, penalised, recipe.prefixes)
        for name in ("tokens", "lengths", "finished", "log_probabilities", "attention"):
            got, expected = getattr(beam, name), getattr(greedy, name)
            assert (got is None and expected is None) or torch.equal(got, expected), name
    assert torch.equal(greedy.scores, greedy.log_probabilities)


@settings(deadline=None, max_examples=100)
@given(recipe=recipes(), data=st.data(), greedy=st.booleans())
def test_an_example_does_not_know_its_neighbours(recipe: Recipe, data: st.DataObject, greedy: bool) -> None:
    """Contract 2: any part of the batch in any order, bit for bit."""
    config: SearchConfig = GreedyConfig(max_length=recipe.config.max_length) if greedy else recipe.config
    world = recipe.world()
    if not all(rules.beam() for rules in recipe.rules(world)):
        return
    whole = run(world, config, recipe.prefixes)
    some = data.draw(st.permutations(range(len(recipe.source_lengths))))
    some = some[: data.draw(st.integers(1, len(some)))]
    prefixes = None if recipe.prefixes is None else [recipe.prefixes[row] for row in some]
    part = run(world.at(some), config, prefixes)
    num_steps = part.tokens.shape[-1]
    expected = Hypotheses(*(None if field is None else field[torch.tensor(some)] for field in whole))
    assert not (expected.lengths > num_steps).any()
    for name in ("lengths", "finished", "scores", "log_probabilities"):
        assert torch.equal(getattr(part, name), getattr(expected, name)), name
    assert torch.equal(part.tokens, expected.tokens[..., :num_steps])
    if part.attention is not None and expected.attention is not None:
        assert torch.equal(part.attention, expected.attention[:, :, :num_steps])


def test_a_run_of_tokens_that_a_prefix_repeats_is_kept_and_never_repeated_again() -> None:
    world = World.make(1, source_lengths=[3], num_words=3)
    prefix = [4, 5, 4, 5]
    config = BeamConfig(beam_size=4, max_length=9, min_length=9, num_best=4, no_repeat_ngram=2)
    for tokens in run(world, config, [prefix]).token_lists()[0]:
        assert tokens[:4] == prefix
        pairs = list(itertools.pairwise(tokens))
        assert len(pairs) == len(set(pairs)) + 1
    once = BeamConfig(beam_size=2, max_length=3, min_length=3, no_repeat_ngram=1)
    assert sorted(run(world, once).token_lists()[0][0]) == [4, 5, 6]


def test_lists_of_tokens_hold_neither_padding_nor_the_end() -> None:
    found = Hypotheses(
        tokens=torch.tensor([[[4, 5, 2], [4, 0, 0]], [[5, 5, 5], [0, 0, 0]]]),
        lengths=torch.tensor([[3, 1], [3, 0]]),
        finished=torch.tensor([[True, False], [False, False]]),
        scores=torch.zeros(2, 2),
        log_probabilities=torch.zeros(2, 2),
        attention=None,
    )
    assert found.token_lists() == [[[4, 5], [4]], [[5, 5, 5]]]


@pytest.mark.parametrize(("bos", "pad"), [(2, 0), (1, 1), (2, 2)])
def test_the_start_may_be_the_end_or_padding(bos: int, pad: int) -> None:
    """As in vocabularies whose decoder starts with the end of sequence, or pads with it."""
    special = SpecialTokens(bos=bos, eos=2, pad=pad, forbidden=(3, 0, 1))
    world = World.make(5, source_lengths=[3, 2], num_words=3)
    usual = run(world, BeamConfig(beam_size=3, max_length=6, num_best=3))

    class Renamed(TableDecoder):
        def step(self, tokens: Tensor, state: TableState) -> StepOutput[TableState]:
            first = not self.num_rows
            return super().step(torch.full_like(tokens, SPECIAL.bos) if first else tokens, state)

    found = run(world, BeamConfig(beam_size=3, max_length=6, num_best=3), decoder=Renamed(world), special=special)
    assert found.token_lists() == usual.token_lists()
    assert torch.equal(found.scores, usual.scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    world = World.make(2, source_lengths=[3, 2], num_words=4)
    halved = world._replace(logits=world.logits.to(dtype))
    for config in (BeamConfig(beam_size=3, max_length=8, coverage_penalty=0.1), GreedyConfig(max_length=8)):
        found = run(halved, config)
        assert found.scores.dtype == torch.float32
        exact = run(world._replace(logits=halved.logits.double()), config)
        assert torch.equal(found.tokens, exact.tokens)
        torch.testing.assert_close(found.scores.double(), exact.scores, rtol=1e-5, atol=1e-5)

"""Greedy and beam search against every sequence there is, and against a beam written with plain lists."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.search import BeamConfig, GreedyConfig, Hypotheses, SearchConfig, SpecialTokens, search
from core.nn.searching import beam_search
from core.nn.step_decoder import StepOutput

SPECIAL = SpecialTokens(bos=1, eos=2, pad=0, forbidden=(3,))
NUM_CODES = 23
START = 5


def code_after(code: Any, token: Any) -> Any:
    """A number that remembers all tokens so far: a hypothesis with another's state would be found out."""
    return (code * 7 + token * 3 + 1) % NUM_CODES


class World(NamedTuple):
    """Logits and attention of every example in every state."""

    logits: Tensor
    """(examples, codes, vocabulary)"""
    attention: Tensor | None
    """(examples, codes, source)"""
    source_lengths: list[int]

    @staticmethod
    def make(
        seed: int,
        *,
        source_lengths: list[int],
        num_words: int,
        with_attention: bool = True,
        ties: bool = False,
        spread: float = 1.5,
    ) -> "World":
        generator = torch.Generator().manual_seed(seed)
        shape = (len(source_lengths), NUM_CODES, 4 + num_words)
        logits = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
        if ties:
            logits = torch.randint(2, shape, generator=generator).double()
        attention = None
        if with_attention:
            weights = torch.randn(*shape[:2], max(source_lengths), generator=generator, dtype=torch.float64) * 2
            for row, length in enumerate(source_lengths):
                weights[row, :, length:] = -torch.inf
            attention = weights.softmax(-1)
        return World(logits, attention, source_lengths)

    def at(self, rows: Sequence[int]) -> "World":
        index = torch.tensor(rows)
        return World(
            self.logits[index],
            None if self.attention is None else self.attention[index],
            [self.source_lengths[row] for row in rows],
        )


class TableState(NamedTuple):
    codes: Tensor
    owners: Tensor
    """(rows,) the example of each row."""

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "TableState":
        """Holds the search to its side of the protocol."""
        present = self.owners.unique()
        owners = self.owners[rows]
        kept = present if examples is None else present[examples]
        assert rows.dtype == torch.int64
        assert examples is None or bool((examples.diff() > 0).all())
        assert torch.equal(owners, kept.repeat_interleave(len(rows) // len(kept)))
        return TableState(self.codes[rows], owners)


class TableDecoder:
    def __init__(self, world: World) -> None:
        self.world = world
        self.num_rows: list[int] = []

    def start(self) -> TableState:
        num_examples = len(self.world.source_lengths)
        return TableState(torch.full((num_examples,), START), torch.arange(num_examples))

    def step(self, tokens: Tensor, state: TableState) -> StepOutput[TableState]:
        self.num_rows.append(len(tokens))
        codes = torch.where(tokens == SPECIAL.bos, state.codes, code_after(state.codes, tokens))
        attention = None if self.world.attention is None else self.world.attention[state.owners, codes]
        # A view of a table: a search that wrote into what it was given would be found out.
        logits = self.world.logits[state.owners, codes]
        return StepOutput(logits, TableState(codes, state.owners), attention)


def run(world: World, config: SearchConfig, prefixes: list[list[int]] | None = None, **changed: Any) -> Hypotheses:
    decoder = changed.pop("decoder", None) or TableDecoder(world)
    arguments = {"special": SPECIAL, "source_lengths": torch.tensor(world.source_lengths), **changed}
    return search(decoder, state=decoder.start(), config=config, prefixes=prefixes, **arguments)


class Path(NamedTuple):
    """A hypothesis in plain numbers."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0
    attention: tuple[tuple[float, ...], ...] = ()
    score: float = -math.inf

    @property
    def finished(self) -> bool:
        return self.tokens[-1:] == (SPECIAL.eos,)


class Rules(NamedTuple):
    """The definition of what search may do in one example."""

    world: World
    example: int
    config: BeamConfig
    prefix: list[int]

    @property
    def longest(self) -> int:
        return self.config.longest(self.world.source_lengths)[self.example]

    def allowed(self, path: Path) -> list[int]:
        place, size = len(path.tokens), self.config.no_repeat_ngram
        if place < len(self.prefix):
            return [self.prefix[place]]
        tokens = [SPECIAL.eos, *range(4, self.world.logits.shape[-1])]
        if place + 1 < self.config.min_length:
            tokens.remove(SPECIAL.eos)
        if size is not None:
            seen = {path.tokens[start : start + size] for start in range(place - size + 1)}
            tokens = [token for token in tokens if (*path.tokens, token)[-size:] not in seen or size > place + 1]
        return tokens

    def following(self, path: Path) -> list[Path]:
        """Likeliest first."""
        code = START
        for token in path.tokens:
            code = code_after(code, token)
        gains = self.world.logits[self.example, code].log_softmax(-1).tolist()
        seen = () if self.world.attention is None else (tuple(self.world.attention[self.example, code].tolist()),)
        tokens = sorted(self.allowed(path), key=lambda token: (-gains[token], token))
        return [Path((*path.tokens, token), path.total + gains[token], path.attention + seen) for token in tokens]

    def scored(self, path: Path) -> Path:
        score = path.total / ((5 + len(path.tokens)) / 6) ** self.config.length_penalty
        if self.config.coverage_penalty:
            received = [sum(weights) for weights in zip(*path.attention, strict=True)]
            received = received[: self.world.source_lengths[self.example]]
            score += self.config.coverage_penalty * sum(math.log(min(weight, 1.0)) for weight in received)
        return path._replace(score=score)

    def everything(self, path: Path) -> Iterator[Path]:
        for longer in self.following(path):
            if longer.finished or len(longer.tokens) == self.longest:
                yield self.scored(longer)
            else:
                yield from self.everything(longer)

    def beam(self) -> list[Path]:
        """Without stopping early."""
        size = self.config.beam_size
        live, ended = [Path()], []
        for step in range(self.longest):
            longer = [path for parent in live for path in self.following(parent)[: 2 * size]]
            longer = sorted(longer, key=lambda path: -path.total)[: 2 * size]
            last = step + 1 == self.longest
            ended += [self.scored(path) for path in longer[:size] if path.finished or last]
            live = [path for path in longer if not path.finished][:size]
            if len(ended) >= self.config.patience * size:
                break
        return sorted(ended, key=lambda path: -path.score)[: self.config.num_best]


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


class Recipe(NamedTuple):
    config: BeamConfig
    source_lengths: list[int]
    forced: list[list[int]] | None
    """Prefixes, some longer than what their example may have."""
    num_words: int
    seed: int
    with_attention: bool
    ties: bool
    spread: float
    """Of the logits: steep distributions make long hypotheses that are nearly as likely as short ones."""

    @property
    def prefixes(self) -> list[list[int]] | None:
        if self.forced is None:
            return None
        longest = self.config.longest(self.source_lengths)
        return [prefix[:length] for prefix, length in zip(self.forced, longest, strict=True)]

    def world(self) -> World:
        return World.make(
            self.seed,
            source_lengths=self.source_lengths,
            num_words=self.num_words,
            with_attention=self.with_attention,
            ties=self.ties,
            spread=self.spread,
        )

    def rules(self, world: World) -> list[Rules]:
        prefixes = self.prefixes or [[] for _ in self.source_lengths]
        return [Rules(world, example, self.config, prefix) for example, prefix in enumerate(prefixes)]


@st.composite
def recipes(
    draw: st.DrawFn, *, max_words: int = 4, max_length: int = 12, beam_size: int | None = None, max_examples: int = 4
) -> Recipe:
    num_words = draw(st.integers(1, max_words))
    longest = draw(st.integers(1, max_length))
    ties = draw(st.booleans())
    with_attention = draw(st.booleans())
    relative = draw(st.booleans())
    size = beam_size or draw(st.integers(1, 6))
    min_length = draw(st.integers(1, longest))
    # A word for every place before the end, so that no rule leaves an example without a token.
    repeats = [None, *range(1 if min_length <= num_words else 3, longest)]
    config = BeamConfig(
        beam_size=size,
        max_length=longest,
        min_length=min_length,
        max_length_ratio=draw(st.sampled_from([0.5, 1.0, 1.7])) if relative else None,
        max_length_offset=draw(st.integers(-1, 2)) if relative else 0,
        num_best=draw(st.integers(1, min(size, 8))),
        length_penalty=draw(st.sampled_from([0.0, 0.6, 1.0, 2.5, -0.8, -2.0])),
        # Sums of attention round differently in another order: a tie would be decided by that.
        coverage_penalty=draw(st.sampled_from([0.0, 0.2, 2.0])) if with_attention and not ties else 0.0,
        no_repeat_ngram=draw(st.sampled_from(repeats)),
        patience=draw(st.sampled_from([1.0, 1.5, math.inf])),
    )
    source_lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=max_examples))
    forced = None
    if draw(st.booleans()):
        words = st.integers(3, 3 + num_words)  # 3 is forbidden elsewhere
        forced = [draw(st.lists(words, max_size=longest)) for _ in source_lengths]
    return Recipe(
        config,
        source_lengths,
        forced,
        num_words,
        draw(st.integers(0, 2**31)),
        with_attention,
        ties,
        draw(st.sampled_from([0.3, 1.5, 6.0])),
    )


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

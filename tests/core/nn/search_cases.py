"""Searches that hypothesis draws over a decoder that is a table, and what they may do by definition: plain lists."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from core.nn.search import BeamConfig, Hypotheses, SearchConfig, SpecialTokens, search
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

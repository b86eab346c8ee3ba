"""Sampling: its distribution, what it may draw from, and that a draw is nobody's business but its own."""

import itertools
import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.search import GreedyConfig, Hypotheses, SamplingConfig, SpecialTokens, search
from core.nn.searching import sampling
from core.nn.step_decoder import StepOutput

SPECIAL = SpecialTokens(bos=1, eos=2, pad=0)


class TableState(NamedTuple):
    examples: Tensor
    """(rows,)"""

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "TableState":
        return TableState(self.examples[rows])


class TableDecoder:
    """The next token's logits and attention follow from the last token and the example: (examples, last, next)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def start(self) -> TableState:
        return TableState(torch.arange(self.logits.shape[0]))

    def step(self, tokens: Tensor, state: TableState) -> StepOutput[TableState]:
        attention = self.logits[state.examples, tokens, :3].softmax(-1)
        return StepOutput(self.logits[state.examples, tokens], state, attention)


def run(logits: Tensor, config: Any, *, keys: list[int] | None = None, **changed: Any) -> Hypotheses:
    decoder = TableDecoder(logits)
    num_examples = logits.shape[0]
    arguments = {
        "special": SPECIAL,
        "source_lengths": torch.full((num_examples,), 3),
        "keys": torch.tensor(range(num_examples) if keys is None else keys),
        **changed,
    }
    return search(decoder, state=decoder.start(), config=config, **arguments)


def random_logits(seed: int, *, num_examples: int = 1, vocabulary_size: int = 7, spread: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(
        num_examples, vocabulary_size, vocabulary_size, generator=generator, dtype=torch.float64
    )


def expected_distribution(
    logits: Tensor, *, temperature: float, top_k: int | None, top_p: float | None, forbidden: tuple[int, ...] = (0, 1)
) -> dict[int, float]:
    """Of one step, in plain numbers: temper, keep the likeliest k, then the fewest that hold p of what is left."""
    values = logits.log_softmax(-1).tolist()
    weights = {token: math.exp(value / temperature) for token, value in enumerate(values) if token not in forbidden}
    ranked = sorted(weights, key=lambda token: -weights[token])[:top_k]
    if top_p is not None:
        # Without top_k the probability to hold is of all permitted tokens.
        whole = sum(weights[token] for token in ranked)
        sums = [0.0, *itertools.accumulate(weights[token] / whole for token in ranked)]
        ranked = [token for token, before in zip(ranked, sums, strict=False) if before < top_p]
    whole = sum(weights[token] for token in ranked)
    return {token: weights[token] / whole for token in ranked}


CUTS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 3},
    {"top_p": 0.6},
    {"top_k": 5, "top_p": 0.7, "temperature": 1.5},
]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_draws_follow_the_distribution(cut: dict[str, Any]) -> None:
    """20,000 draws of two tokens each, chi-squared of the first and of the second after each first.

    The bound is the value that a chi-squared variable exceeds once in a million times at the most (here: at most six degrees
    of freedom, 38.3); nothing is drawn from outside of what is kept.
    """
    settings_ = {"temperature": 1.0, "top_k": None, "top_p": None, **cut}
    logits = random_logits(11, vocabulary_size=9)
    num_samples = 20_000
    config = SamplingConfig(seed=5, num_samples=num_samples, max_length=2, **cut)
    found = run(logits, config)
    first, second = found.tokens[0].T
    contexts = [(SPECIAL.bos, first)]
    contexts += [(int(token), second[first == token]) for token in first.unique() if int(token) != SPECIAL.eos]
    for last, drawn in contexts:
        expected = expected_distribution(logits[0, last], **settings_)
        counts = drawn.bincount(minlength=9).tolist()
        assert {token for token, count in enumerate(counts) if count} <= set(expected)
        cells = [(counts[token], chance * len(drawn)) for token, chance in expected.items()]
        assert len(cells) <= 7
        assert sum((count - mean) ** 2 / mean for count, mean in cells) < 38.3
        if len(drawn) > 2000:
            assert all(count for count, mean in cells if mean > 20)


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_scores_are_the_log_probabilities_of_the_draws(cut: dict[str, Any]) -> None:
    """Under what was drawn from in `scores`, under the decoder in `log_probabilities`."""
    settings_ = {"temperature": 1.0, "top_k": None, "top_p": None, **cut}
    logits = random_logits(2, num_examples=3, vocabulary_size=8)
    found = run(logits, SamplingConfig(seed=1, num_samples=6, max_length=5, **cut))
    for example, sample in itertools.product(range(3), range(6)):
        length = int(found.lengths[example, sample])
        tokens = found.tokens[example, sample, :length].tolist()
        last, drawn, total = SPECIAL.bos, 0.0, 0.0
        for place, token in enumerate(tokens):
            drawn += math.log(expected_distribution(logits[example, last], **settings_)[token])
            total += float(logits[example, last].log_softmax(-1)[token])
            weights = logits[example, last, :3].softmax(-1)
            torch.testing.assert_close(found.attention[example, sample, place], weights)
            last = token
        assert float(found.scores[example, sample]) == pytest.approx(drawn, abs=1e-9)
        assert float(found.log_probabilities[example, sample]) == pytest.approx(total, abs=1e-9)
        assert bool(found.finished[example, sample]) == (last == SPECIAL.eos)
        assert SPECIAL.eos not in tokens[:-1]
        assert found.finished[example, sample] or length == 5
        assert not found.attention[example, sample, length:].any()
        assert not found.tokens[example, sample, length:].any()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_examples=st.integers(1, 5),
    num_samples=st.integers(1, 4),
    cut=st.sampled_from(CUTS),
    repeats=st.sampled_from([None, 2]),
    data=st.data(),
)
def test_a_draw_depends_on_seed_key_sample_and_step_alone(
    seed: int, num_examples: int, num_samples: int, cut: dict[str, Any], repeats: int | None, data: st.DataObject
) -> None:
    """Any part of the batch in any order, with other samples or none beside it: bit for bit."""
    logits = random_logits(seed, num_examples=num_examples, vocabulary_size=8)
    keys = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=num_examples, max_size=num_examples))
    words = st.lists(st.integers(3, 7), max_size=3)
    prefixes = data.draw(st.lists(words, min_size=num_examples, max_size=num_examples))
    common = {"seed": seed, "max_length": 6, "no_repeat_ngram": repeats, **cut}
    whole = run(logits, SamplingConfig(num_samples=num_samples, **common), keys=keys, prefixes=prefixes)
    some = data.draw(st.permutations(range(num_examples)))[: data.draw(st.integers(1, num_examples))]
    fewer = data.draw(st.integers(1, num_samples))
    part = run(
        logits[torch.tensor(some)],
        SamplingConfig(num_samples=fewer, **common),
        keys=[keys[row] for row in some],
        prefixes=[prefixes[row] for row in some],
    )
    num_steps = part.tokens.shape[-1]
    for name in ("lengths", "finished", "scores", "log_probabilities"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[torch.tensor(some), :fewer]), name
    assert torch.equal(part.tokens, whole.tokens[torch.tensor(some), :fewer, :num_steps])
    assert torch.equal(part.attention, whole.attention[torch.tensor(some), :fewer, :num_steps])
    for prefix, samples in zip(prefixes, whole.tokens.tolist(), strict=True):
        assert all(sample[: len(prefix)] == prefix for sample in samples)


def test_other_seeds_keys_and_samples_draw_otherwise() -> None:
    logits = torch.zeros(2, 60, 60, dtype=torch.float64)
    config = SamplingConfig(seed=0, num_samples=2, max_length=12, min_length=12)
    found = run(logits, config)
    other = run(logits, SamplingConfig(seed=1, num_samples=2, max_length=12, min_length=12))
    drawn = [tuple(sample) for result in (found, other) for example in result.token_lists() for sample in example]
    assert len(set(drawn)) == 8
    assert torch.equal(run(logits, config, keys=[4, 4]).tokens[0], run(logits, config, keys=[4, 4]).tokens[1])


@pytest.mark.parametrize("narrow", [{"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-9}], ids=str)
def test_the_narrowest_distribution_is_greedy(narrow: dict[str, Any]) -> None:
    logits = random_logits(3, num_examples=4, vocabulary_size=40)
    limits = {"max_length": 15, "no_repeat_ngram": 2, "min_length": 3}
    drawn, greedy = run(logits, SamplingConfig(seed=0, **limits, **narrow)), run(logits, GreedyConfig(**limits))
    assert torch.equal(drawn.tokens, greedy.tokens)
    assert torch.equal(drawn.log_probabilities, greedy.log_probabilities)
    assert torch.equal(drawn.lengths, greedy.lengths)


@pytest.mark.parametrize("first_guess", [1, 3, 64, 10**6])
def test_a_nucleus_of_any_size_is_found(first_guess: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of the likeliest tokens are looked at first, flat and steep distributions side by side."""
    logits = torch.randn(3, 300, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits *= torch.tensor([0.01, 1.0, 6.0]).reshape(3, 1, 1)
    config = SamplingConfig(seed=0, num_samples=3, max_length=8, top_p=0.8)
    expected = run(logits, config)
    monkeypatch.setattr(sampling, "_FIRST_GUESS", first_guess)
    found = run(logits, config)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chance", [0.0, 1 - 2.0**-53])
def test_the_ends_of_the_distribution_draw_what_is_permitted(chance: float) -> None:
    """Neither a ruled-out first nor a ruled-out last token, whatever a sum rounds to."""
    values = torch.log_softmax(torch.randn(1, 101), -1)
    values[:, [0, 1, 50, 99, 100]] = -torch.inf
    config = SamplingConfig(seed=0, max_length=1)
    choice = sampling.RandomChoice(config, keys=torch.tensor([0]), num_examples=1, num_steps=1)
    choice.chances = torch.full((1, 1, 1), chance, dtype=torch.float64)
    tokens, scores = choice.choose(values, examples=torch.tensor([0]), step=0)
    assert int(tokens) == (2 if chance == 0 else 98)
    assert torch.isfinite(scores).all()


def test_sampling_without_a_permitted_token_is_refused() -> None:
    logits = random_logits(0, num_examples=2, vocabulary_size=5)
    config = SamplingConfig(seed=0, max_length=5, min_length=5, no_repeat_ngram=1)
    with pytest.raises(ValueError, match="examples 0, 1 of the batch have no hypothesis"):
        run(logits, config)

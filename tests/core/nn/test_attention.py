"""Attention against the papers' equations, one query and one source step at a time, and against itself."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.attention import Additive, Attention, AttentionConfig, Dot, General, Memory, MultiHead
from core.nn.decoders.loop_products import LoopProducts
from tests.shape_checks import unchecked

CONFIGS: list[AttentionConfig] = [
    Additive(num_hidden=5),
    Additive(num_hidden=5, coverage=True),
    Dot(),
    General(),
    MultiHead(num_heads=2, num_hidden=6),
]
FEATURES = 4


class Recipe(NamedTuple):
    config: AttentionConfig
    lengths: list[int]
    num_queries: int
    extra_steps: int
    seed: int

    def make(self) -> "Case":
        torch.manual_seed(self.seed)
        query_size = FEATURES if isinstance(self.config, Dot) else 3
        attention = self.config.build(query_size=query_size, memory_size=FEATURES).double()
        num_steps = max(1, *self.lengths) + self.extra_steps
        values = torch.randn(len(self.lengths), num_steps, FEATURES, dtype=torch.float64)
        query = torch.randn(len(self.lengths), self.num_queries, query_size, dtype=torch.float64)
        coverage = None
        if attention.has_coverage:
            coverage = torch.rand(len(self.lengths), self.num_queries, num_steps, dtype=torch.float64)
        return Case(attention, values, torch.tensor(self.lengths), query, coverage)


class Case(NamedTuple):
    attention: Attention
    values: Tensor
    lengths: Tensor
    query: Tensor
    coverage: Tensor | None

    def run(self) -> dict[str, Tensor]:
        """Outputs, and the gradient of a fixed mix of them in everything."""
        leaves = {"values": self.values.clone().requires_grad_(), "query": self.query.clone().requires_grad_()}
        if self.coverage is not None:
            leaves["coverage"] = self.coverage.clone().requires_grad_()
        memory = self.attention.memory(leaves["values"], self.lengths)
        context, weights = self.attention(leaves["query"], memory, leaves.get("coverage"))
        return with_gradients({"context": context, "weights": weights}, leaves, self.attention)


def with_gradients(results: dict[str, Tensor], leaves: dict[str, Tensor], module: torch.nn.Module) -> dict[str, Tensor]:
    mixed = sum(
        (value * torch.cos(torch.arange(value.numel(), dtype=value.dtype)).reshape(value.shape)).sum()
        for value in results.values()
    )
    leaves = {**leaves, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(mixed, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {**results, **{f"d {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}}


recipes = st.builds(
    Recipe,
    config=st.sampled_from(CONFIGS),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    num_queries=st.integers(1, 3),
    extra_steps=st.integers(0, 2),
    seed=st.integers(0, 2**31),
)


def scores_of(
    attention: Attention, config: AttentionConfig, query: Tensor, step: Tensor, covered: Tensor | None
) -> list[Tensor]:
    """The score of one query with one source step, of every head."""
    if isinstance(config, Additive):
        hidden = attention.query.weight @ query + attention.key.weight @ step + attention.key.bias
        if covered is not None:
            hidden = hidden + attention.coverage.weight.squeeze(1) * covered
        return [attention.score.weight.squeeze(0) @ torch.tanh(hidden)]
    if isinstance(config, General):
        return [query @ (attention.key.weight @ step)]
    if isinstance(config, MultiHead):
        size = config.num_hidden // config.num_heads
        queries = (attention.query.weight @ query + attention.query.bias).split(size)
        keys = (attention.key.weight @ step + attention.key.bias).split(size)
        return [one @ other / math.sqrt(size) for one, other in zip(queries, keys, strict=True)]
    return [query @ step]


def naive(case: Case, config: AttentionConfig) -> tuple[Tensor, Tensor]:
    attention = case.attention
    contexts, all_weights = [], []
    for example, length in enumerate(case.lengths.tolist()):
        for number, query in enumerate(case.query[example]):
            weights = case.values.new_zeros(case.values.shape[1])
            context = case.values.new_zeros(attention.context_size)
            if length:
                scores = [
                    scores_of(
                        attention,
                        config,
                        query,
                        case.values[example, step],
                        None if case.coverage is None else case.coverage[example, number, step],
                    )
                    for step in range(length)
                ]
                of_heads = torch.stack([torch.stack(row) for row in scores]).exp()
                of_heads = of_heads / of_heads.sum(0)
                source = case.values[example, :length]
                if isinstance(config, MultiHead):
                    projected = source @ attention.value.weight.T + attention.value.bias
                    heads = projected.reshape(length, config.num_heads, -1)
                    joined = torch.stack([of_heads[:, h] @ heads[:, h] for h in range(config.num_heads)]).flatten()
                    context = attention.output.weight @ joined + attention.output.bias
                else:
                    context = of_heads[:, 0] @ source
                weights = torch.cat([of_heads.mean(1), weights[length:]])
            contexts.append(context)
            all_weights.append(weights)
    shape = case.query.shape[:2]
    return torch.stack(contexts).reshape(*shape, -1), torch.stack(all_weights).reshape(*shape, -1)


@settings(deadline=None, max_examples=80)
@given(recipe=recipes)
def test_every_kind_is_its_equation(recipe: Recipe) -> None:
    """Lengths of 0 and 1, several queries: contexts, weights and all gradients."""
    case = recipe.make()
    got = case.run()
    leaves = {"values": case.values.clone().requires_grad_(), "query": case.query.clone().requires_grad_()}
    if case.coverage is not None:
        leaves["coverage"] = case.coverage.clone().requires_grad_()
    context, weights = naive(case._replace(**leaves), recipe.config)
    if not context.requires_grad:  # nothing but empty sources
        context = context + 0 * leaves["query"].sum()
    expected = with_gradients({"context": context, "weights": weights}, leaves, case.attention)
    for name, value in got.items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}"
        )


@settings(deadline=None, max_examples=60)
@given(recipe=recipes, junk=st.sampled_from([torch.nan, torch.inf, 1e300]), extra=st.integers(0, 5))
def test_padding_never_reaches_an_output_or_a_gradient(recipe: Recipe, junk: float, extra: int) -> None:
    case = recipe.make()
    num_steps = case.values.shape[1]
    dirty = torch.nn.functional.pad(case.values, (0, 0, 0, extra))
    coverage = None if case.coverage is None else torch.nn.functional.pad(case.coverage, (0, extra))
    for example, length in enumerate(recipe.lengths):
        dirty[example, length:] = junk
    memory = case.attention.memory(dirty, case.lengths)
    context, weights = case.attention(case.query, memory, coverage)
    expected = case.run()
    torch.testing.assert_close(context, expected["context"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights[..., :num_steps], expected["weights"], rtol=1e-12, atol=1e-12)
    assert not weights[..., num_steps:].any()
    if extra == 0:
        got = case._replace(values=dirty).run()
        assert all(torch.equal(got[name], expected[name]) for name in expected)


@settings(deadline=None, max_examples=40)
@given(recipe=recipes)
def test_a_source_is_kept_once_whatever_the_number_of_queries(recipe: Recipe) -> None:
    """All queries at once, each for itself, and over examples that were selected are the same."""
    case = recipe.make()
    memory = case.attention.memory(case.values, case.lengths)
    context, weights = case.attention(case.query, memory, case.coverage)
    for number in range(recipe.num_queries):
        part = slice(number, number + 1)
        coverage = None if case.coverage is None else case.coverage[:, part]
        one_context, one_weights = case.attention(case.query[:, part], memory, coverage)
        torch.testing.assert_close(one_context, context[:, part], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one_weights, weights[:, part], rtol=1e-12, atol=1e-12)
    kept = torch.tensor([len(recipe.lengths) - 1])
    coverage = None if case.coverage is None else case.coverage[kept]
    some_context, _ = case.attention(case.query[kept], memory.select(kept), coverage)
    torch.testing.assert_close(some_context, context[kept], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_in_a_loop_it_has_the_same_values_and_gradients(config: AttentionConfig) -> None:
    """`LoopProducts` makes the gradients of keys, values and weights once, after the loop."""
    case = Recipe(config, [3, 0, 5], 4, 1, 0).make()
    expected = case.run()
    leaves = {"values": case.values.clone().requires_grad_(), "query": case.query.clone().requires_grad_()}
    coverage: Tensor | None = None
    if case.coverage is not None:
        leaves["coverage"] = coverage = case.coverage.clone().requires_grad_()
    memory = case.attention.memory(leaves["values"], case.lengths)
    attend = case.attention.bind(memory, LoopProducts(4))
    steps = [
        attend(leaves["query"][:, i : i + 1], None if coverage is None else coverage[:, i : i + 1]) for i in range(4)
    ]
    context, weights = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
    got = with_gradients({"context": context, "weights": weights}, leaves, case.attention)
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_gradients_are_those_of_finite_differences(config: AttentionConfig) -> None:
    case = Recipe(config, [3, 1], 2, 1, 0).make()
    inputs = [case.values.requires_grad_(), case.query.requires_grad_()]
    if case.coverage is not None:
        inputs.append(case.coverage.requires_grad_())

    def run(values: Tensor, query: Tensor, coverage: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return case.attention(query, case.attention.memory(values, case.lengths), coverage)

    run(*inputs)
    with unchecked():  # the hundreds of calls that follow are of the same shapes
        assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_bfloat16_by_autocast_is_near_float32_and_keeps_padding_at_0(config: AttentionConfig) -> None:
    case = Recipe(config, [3, 0, 5], 2, 1, 0).make()
    attention = case.attention.float()
    values, query = case.values.float(), case.query.float()
    coverage = None if case.coverage is None else case.coverage.float()
    context, _ = attention(query, attention.memory(values, case.lengths), coverage)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, weights = attention(query, attention.memory(values, case.lengths), coverage)
    torch.testing.assert_close(half.float(), context, rtol=0.1, atol=0.05)
    assert not weights[0, :, 3:].any()
    assert not weights[1].any()


def test_large_float32_scores_do_not_overflow() -> None:
    """Scores of +-1e4, where a naive softmax is infinity over infinity."""
    attention = Dot().build(query_size=2, memory_size=2)
    memory = attention.memory(torch.tensor([[[100.0, 0.0], [-100.0, 0.0]]]), torch.tensor([2]))
    context, weights = attention(torch.tensor([[[100.0, 0.0]]]), memory)
    assert torch.equal(weights, torch.tensor([[[1.0, 0.0]]]))
    assert torch.equal(context, torch.tensor([[[100.0, 0.0]]]))


def test_additive_scores_keep_float32_precision_near_0() -> None:
    """Tanh made of a sigmoid rounds in absolute terms; a sum of hundreds of them is still float32."""
    torch.manual_seed(0)
    attention = Additive(num_hidden=512).build(query_size=8, memory_size=8)
    values, query = 1e-3 * torch.randn(3, 7, 8), 1e-3 * torch.randn(3, 2, 8)
    lengths = torch.tensor([7, 4, 1])
    context, weights = attention(query, attention.memory(values, lengths))
    exact = attention.double()
    expected, expected_weights = exact(query.double(), exact.memory(values.double(), lengths))
    torch.testing.assert_close(weights.double(), expected_weights, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(context.double(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Additive(num_hidden=0), "num_hidden must be at least 1, got 0"),
        (lambda: MultiHead(num_heads=3, num_hidden=8), "multiple of num_heads, got 8 and 3 heads"),
        (lambda: MultiHead(num_heads=0, num_hidden=8), "multiple of num_heads, got 8 and 0 heads"),
        (lambda: Dot().build(query_size=3, memory_size=4), "queries as wide as source steps, got 3 and 4"),
        (lambda: General().build(query_size=0, memory_size=4), "must be at least 1, got 0 and 4"),
    ],
)
def test_settings_that_are_wrong_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("as_shipped")
def test_input_that_does_not_fit_is_refused() -> None:
    plain = General().build(query_size=3, memory_size=4)
    covered = Additive(num_hidden=5, coverage=True).build(query_size=3, memory_size=4)
    values, lengths, query = torch.zeros(2, 6, 4), torch.tensor([6, 2]), torch.zeros(2, 1, 3)
    with pytest.raises(ValueError, match=r"\(examples, source >= 1, 4\), got \(2, 6, 5\)"):
        plain.memory(torch.zeros(2, 6, 5), lengths)
    with pytest.raises(ValueError, match=r"got \(2, 0, 4\)"):
        plain.memory(torch.zeros(2, 0, 4), lengths)
    with pytest.raises(ValueError, match="lengths must be int64"):
        plain.memory(values, lengths.float())
    memory: Memory = plain.memory(values, lengths)
    with pytest.raises(ValueError, match=r"= \(2, any, 3\), got \(4, 1, 3\)"):
        plain(torch.zeros(4, 1, 3), memory)
    with pytest.raises(ValueError, match="GeneralAttention does not read coverage, got one"):
        plain(query, memory, torch.zeros(2, 1, 6))
    with pytest.raises(ValueError, match="AdditiveAttention needs coverage, got None"):
        covered(query, covered.memory(values, lengths))
    with pytest.raises(ValueError, match=r"= \(2, 1, 6\), got \(2, 1, 5\)"):
        covered(query, covered.memory(values, lengths), torch.zeros(2, 1, 5))


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_a_memory_that_does_not_fit_is_refused(config: AttentionConfig) -> None:
    """One of another attention may have shapes that a product takes, and would give a context of something else."""
    values, lengths, query = torch.zeros(2, 6, 4), torch.tensor([6, 2]), torch.zeros(2, 1, 4)
    coverage = torch.zeros(2, 1, 6) if config.has_coverage else None
    attention = config.build(query_size=4, memory_size=4)
    memory = attention.memory(values, lengths)
    for other in (Additive(num_hidden=7), General(), MultiHead(num_heads=3, num_hidden=6)):
        foreign = other.build(query_size=9, memory_size=4).memory(values, lengths)
        with pytest.raises(ValueError, match=r"memory\.keys must have shape .*, got .* another attention"):
            attention(query, foreign, coverage)
    with pytest.raises(ValueError, match=r"memory\.values must have shape .* = \(2, .*6, \d\), got"):
        attention(query, memory._replace(values=torch.cat([memory.values, memory.values], -1)), coverage)
    if not list(attention.parameters()):
        return
    for wrong in (memory.keys.double(), memory.keys.to("meta")):
        with pytest.raises(ValueError, match=r"memory\.keys must be torch\.float32 on cpu, as the weights are, got"):
            attention(query, memory._replace(keys=wrong), coverage)


@pytest.mark.usefixtures("as_shipped")
def test_integers_are_no_source() -> None:
    attention = Dot().build(query_size=4, memory_size=4)
    with pytest.raises(ValueError, match=r"values must be floating point, got torch\.int64"):
        attention.memory(torch.zeros(2, 6, 4, dtype=torch.int64), torch.tensor([6, 2]))

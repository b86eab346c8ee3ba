"""Attention of a decoder over an encoded source.

The source is projected once (`memory`), whatever the number of decoder steps, and kept once an example, whatever the
number of its hypotheses: queries come as (examples, queries, features), where the queries of an example are its
hypotheses, its target steps, or both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from core.nn.decoders.additive_score import additive_score
from core.nn.decoders.loop_products import Products, apply_linear, plain_products
from core.nn.lengths import check_lengths, valid_steps
from core.nn.recurrence.precision import check_like

Attend = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""(query, coverage) -> (context, weights), over a memory that is given."""


class Memory(NamedTuple):
    """An encoded source, ready to be attended to; `heads` for multi-head attention alone."""

    keys: Float[Tensor, "examples *heads source features"]
    values: Float[Tensor, "examples *heads source features"]
    mask: Bool[Tensor, "examples source"]
    """True where a source step is valid."""
    bias: Float[Tensor, "examples source"]
    """What is added to the scores: -inf in the padding, 0 elsewhere and in an empty source."""

    def select(self, examples: Int[Tensor, "kept"]) -> "Memory":
        """The memory of these examples, in that order."""
        return Memory(*(part.index_select(0, examples) for part in self))

    def detach(self) -> "Memory":
        """The same values without their history."""
        return Memory(*(part.detach() for part in self))


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(ABC):
    """A kind of attention."""

    @property
    def has_coverage(self) -> bool:
        """Whether scores read what was attended to before."""
        return False

    @abstractmethod
    def build(self, *, query_size: int, memory_size: int) -> "Attention":
        """The attention for queries and source steps this wide."""


@dataclass(frozen=True, kw_only=True)
class Additive(AttentionConfig):
    """score(q, k) = v . tanh(W q + U k + b): a network of one hidden layer.

    Source: Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
    appendix A.1.2; coverage from See et al., "Get To The Point", ACL 2017, eq. 10-11.
    """

    num_hidden: int
    """Hidden units of the scoring network."""
    coverage: bool = False
    """Add w c to the sum inside tanh, c the sum of the weights a source step has had so far."""

    def __post_init__(self) -> None:
        if self.num_hidden < 1:
            raise ValueError(f"num_hidden must be at least 1, got {self.num_hidden}.")

    @property
    def has_coverage(self) -> bool:
        """As set."""
        return self.coverage

    def build(self, *, query_size: int, memory_size: int) -> "AdditiveAttention":
        """See the base class."""
        return AdditiveAttention(self, query_size=query_size, memory_size=memory_size)


@dataclass(frozen=True, kw_only=True)
class Dot(AttentionConfig):
    """score(q, k) = q . k, without a parameter; queries are as wide as source steps.

    Source: Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015, eq. 8.
    """

    def build(self, *, query_size: int, memory_size: int) -> "DotAttention":
        """See the base class."""
        return DotAttention(query_size=query_size, memory_size=memory_size)


@dataclass(frozen=True, kw_only=True)
class General(AttentionConfig):
    """score(q, k) = q . W k (Luong et al. 2015, eq. 8)."""

    def build(self, *, query_size: int, memory_size: int) -> "GeneralAttention":
        """See the base class."""
        return GeneralAttention(query_size=query_size, memory_size=memory_size)


@dataclass(frozen=True, kw_only=True)
class MultiHead(AttentionConfig):
    """Several dot-product attentions side by side, each over a projection of its own, scaled by the root of its width.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.2.
    """

    num_heads: int
    """Attentions side by side."""
    num_hidden: int
    """Width of all heads together, and of the context; a multiple of num_heads."""

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.num_hidden < 1 or self.num_hidden % self.num_heads:
            raise ValueError(
                f"num_hidden must be a positive multiple of num_heads, got {self.num_hidden} and {self.num_heads} heads."
            )

    def build(self, *, query_size: int, memory_size: int) -> "MultiHeadAttention":
        """See the base class."""
        return MultiHeadAttention(self, query_size=query_size, memory_size=memory_size)


class Attention(nn.Module, ABC):
    """Weights over the valid source steps by a score, and their weighted mean, the context.

    A source of length 0 has weights and a context of zero. The weights are a softmax over the valid steps: padding gets
    exactly 0.
    """

    has_coverage = False

    def __init__(self, *, query_size: int, memory_size: int) -> None:
        super().__init__()
        if query_size < 1 or memory_size < 1:
            raise ValueError(f"query_size and memory_size must be at least 1, got {query_size} and {memory_size}.")
        self.query_size = query_size
        self.memory_size = memory_size

    @property
    def context_size(self) -> int:
        """Width of the context."""
        return self.memory_size

    def memory(self, values: Float[Tensor, "examples source features"], lengths: Int[Tensor, "examples"]) -> Memory:
        """Project the source, once for all queries. What stands in its padding is not read.

        Args:
            values: the encoder's outputs; at least one step.
            lengths: int64, valid steps of each source, 0 to source.

        Raises:
            ValueError: if a shape, dtype or device does not fit.
        """
        if values.ndim != 3 or values.shape[1] == 0 or values.shape[2] != self.memory_size:
            raise ValueError(
                f"values must have shape (examples, source >= 1, {self.memory_size}), got {tuple(values.shape)}. "
                f"The last axis is memory_size={self.memory_size}."
            )
        check_lengths(lengths, of=values)
        if not values.is_floating_point():
            raise ValueError(f"values must be floating point, got {values.dtype}.")
        weight = next(self.parameters(), None)
        if weight is not None:
            check_like(values, name="values", like=weight)
        mask = valid_steps(lengths, values.shape[1])
        # Filled before anything reads it: a weight of 0 does not stop a NaN.
        keys, values = self._project(values.masked_fill(~mask.unsqueeze(-1), 0.0))
        # A softmax over nothing is NaN: an empty source gets weights like any other, and they are taken out after it.
        scored = mask | (lengths == 0).unsqueeze(-1)
        # -inf, not a large negative number: bf16 would let padding leak in.
        bias = torch.zeros_like(mask, dtype=keys.dtype).masked_fill(~scored, -torch.inf)
        return Memory(keys, values, mask, bias)

    def forward(
        self,
        query: Float[Tensor, "examples queries features"],
        memory: Memory,
        coverage: Float[Tensor, "examples queries source"] | None = None,
    ) -> tuple[Float[Tensor, "examples queries context"], Float[Tensor, "examples queries source"]]:
        """Context and weights of every query.

        Args:
            query: queries of each example.
            memory: what `memory` gave.
            coverage: sum of the weights so far; for an attention with coverage, and no other.

        Raises:
            ValueError: if a shape, dtype or device does not fit, or coverage is missing or of no use.
        """
        self.check_memory(memory, name="memory", like=next(self.parameters(), None))
        num_examples, num_source = memory.mask.shape
        if query.ndim != 3 or query.shape[0] != num_examples or query.shape[2] != self.query_size:
            raise ValueError(
                f"query must have shape (examples, queries, features) = ({num_examples}, any, {self.query_size}), "
                f"got {tuple(query.shape)}."
            )
        check_like(query, name="query", like=memory.keys, like_name="the memory is")
        if (coverage is not None) != self.has_coverage:
            raise ValueError(
                f"{type(self).__name__} {'needs' if self.has_coverage else 'does not read'} coverage, got "
                f"{'None' if coverage is None else 'one'}: only additive attention with coverage=true reads it."
            )
        if coverage is not None and coverage.shape != (*query.shape[:2], num_source):
            raise ValueError(
                f"coverage must have shape (examples, queries, source) = {(*query.shape[:2], num_source)}, "
                f"got {tuple(coverage.shape)}."
            )
        if coverage is not None:
            check_like(coverage, name="coverage", like=memory.keys, like_name="the memory is")
        return self.bind(memory, plain_products)(query, coverage)

    def check_memory(self, memory: Memory, *, name: str, like: Tensor | None) -> None:
        """Refuse the memory of another attention, where its shapes tell, or one that is not like the weights `like`.

        Raises:
            ValueError: saying what was expected and what was got; the message calls the memory `name`.
        """
        parts = {"keys": memory.keys, "values": memory.values}
        shapes = self._part_shapes(*memory.mask.shape)
        for (part_name, part), shape in zip(parts.items(), shapes, strict=True):
            if part.shape != shape:
                raise ValueError(
                    f"{name}.{part_name} must have shape (examples, *heads, source, features) = {shape}, got "
                    f"{tuple(part.shape)}: the memory comes from another attention. Make it anew from the source."
                )
            if like is not None:
                check_like(part, name=f"{name}.{part_name}", like=like)

    def bind(self, memory: Memory, products: Products) -> Attend:
        """This attention over one memory as a function, its products done as `products` does them (in a loop)."""
        empty = ~memory.mask.any(-1)[:, None, None]
        attend = self._bind(memory, products)
        return lambda query, coverage: attend(query, coverage, empty)

    @abstractmethod
    def _project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of source steps whose padding is zero."""

    @abstractmethod
    def _part_shapes(self, num_examples: int, num_source: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the keys and of the values of so many source steps."""

    @abstractmethod
    def _bind(
        self, memory: Memory, products: Products
    ) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]:
        """(query, coverage, empty) -> (context, weights); `empty` (examples, 1, 1) is True for a source of length 0."""


class DotAttention(Attention):
    """score(q, k) = q . k (`Dot`)."""

    def __init__(self, *, query_size: int, memory_size: int) -> None:
        super().__init__(query_size=query_size, memory_size=memory_size)
        self._check_key_size(query_size, memory_size)

    def _check_key_size(self, query_size: int, memory_size: int) -> None:
        if query_size != memory_size:
            raise ValueError(
                f"dot attention needs queries as wide as source steps, got {query_size} and {memory_size}. "
                "Change hidden_size of the encoder or the decoder, or use general attention, which projects."
            )

    def _project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values, values

    def _part_shapes(self, num_examples: int, num_source: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (num_examples, num_source, self.query_size), (num_examples, num_source, self.memory_size)

    def _bind(
        self, memory: Memory, products: Products
    ) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]:
        score = products([memory.keys], bias=memory.bias.unsqueeze(1))
        mix = products([memory.values.mT])

        def attend(query: Tensor, coverage: Tensor | None, empty: Tensor) -> tuple[Tensor, Tensor]:
            weights = _weights(score(query), empty)
            return mix(weights), weights

        return attend


class GeneralAttention(DotAttention):
    """score(q, k) = q . W k (`General`)."""

    def __init__(self, *, query_size: int, memory_size: int) -> None:
        super().__init__(query_size=query_size, memory_size=memory_size)
        self.key = nn.Linear(memory_size, query_size, bias=False)

    def _check_key_size(self, query_size: int, memory_size: int) -> None:
        """Any widths: W projects."""

    def _project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return apply_linear(values, self.key.weight), values


class AdditiveAttention(Attention):
    """score(q, k) = v . tanh(W q + U k + b), with coverage + w c (`Additive`)."""

    def __init__(self, config: Additive, *, query_size: int, memory_size: int) -> None:
        super().__init__(query_size=query_size, memory_size=memory_size)
        self.has_coverage = config.coverage
        self.query = nn.Linear(query_size, config.num_hidden, bias=False)
        self.key = nn.Linear(memory_size, config.num_hidden)
        self.score = nn.Linear(config.num_hidden, 1, bias=False)
        if config.coverage:
            self.coverage = nn.Linear(1, config.num_hidden, bias=False)

    def _project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return apply_linear(values, self.key.weight, self.key.bias), values

    def _part_shapes(self, num_examples: int, num_source: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (num_examples, num_source, self.key.out_features), (num_examples, num_source, self.memory_size)

    def _bind(
        self, memory: Memory, products: Products
    ) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]:
        project = products([self.query.weight])
        mix = products([memory.values.mT])
        bias = memory.bias.unsqueeze(1)
        score = additive_score(
            memory.keys,
            self.score.weight.squeeze(0),
            coverage_weight=self.coverage.weight.squeeze(1) if self.has_coverage else None,
        )

        def attend(query: Tensor, coverage: Tensor | None, empty: Tensor) -> tuple[Tensor, Tensor]:
            weights = _weights(score(project(query), coverage) + bias, empty)
            return mix(weights), weights

        return attend


class MultiHeadAttention(Attention):
    """Scaled dot products in several heads (`MultiHead`); the weights given are the mean over the heads."""

    def __init__(self, config: MultiHead, *, query_size: int, memory_size: int) -> None:
        super().__init__(query_size=query_size, memory_size=memory_size)
        self.num_heads = config.num_heads
        self.num_hidden = config.num_hidden
        self.query = nn.Linear(query_size, config.num_hidden)
        self.key = nn.Linear(memory_size, config.num_hidden)
        self.value = nn.Linear(memory_size, config.num_hidden)
        self.output = nn.Linear(config.num_hidden, config.num_hidden)

    @property
    def context_size(self) -> int:
        """Width of the context."""
        return self.num_hidden

    def _split(self, features: Tensor) -> Tensor:
        width = features.shape[-1] // self.num_heads
        return features.reshape(*features.shape[:2], self.num_heads, width).transpose(1, 2)

    def _project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        keys = apply_linear(values, self.key.weight, self.key.bias)
        return self._split(keys), self._split(apply_linear(values, self.value.weight, self.value.bias))

    def _part_shapes(self, num_examples: int, num_source: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (num_examples, self.num_heads, num_source, self.num_hidden // self.num_heads)
        return shape, shape

    def _bind(
        self, memory: Memory, products: Products
    ) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]:
        project = products([self.query.weight], bias=self.query.bias)
        score = products([memory.keys], bias=memory.bias[:, None, None])
        mix = products([memory.values.mT])
        join = products([self.output.weight], bias=self.output.bias)
        scale = (self.num_hidden // self.num_heads) ** -0.5

        def attend(query: Tensor, coverage: Tensor | None, empty: Tensor) -> tuple[Tensor, Tensor]:
            weights = _weights(score(self._split(project(query)) * scale), empty.unsqueeze(1))
            heads = mix(weights).transpose(1, 2).flatten(2)
            # The bias of the output alone would make something of an empty source.
            return join(heads).masked_fill(empty, 0.0), weights.mean(1)

        return attend


def _weights(scores: Tensor, empty: Tensor) -> Tensor:
    return scores.softmax(-1).to(scores.dtype).masked_fill(empty, 0.0)

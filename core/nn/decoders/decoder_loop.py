"""A decoder's loop over time, and the state it carries."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.attention import Attention, Memory
from core.nn.cells import RecurrentState
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore, AttentionBetween, DecoderConfig, TopDown
from core.nn.decoders.decoder_layers import DecoderLayers
from core.nn.decoders.loop_products import Products, plain_products
from core.nn.decoders.readout import Readout


class CarriedState(NamedTuple):
    """What a decoder carries from step to step (a `core.nn.step_decoder.DecoderState`).

    Rows are hypotheses, those of one example together; what belongs to an example is there once.
    """

    recurrent: RecurrentState
    """Of every layer, a row a hypothesis."""
    memory: Memory | None = None
    """The projected source, once an example; None without attention."""
    context: Float[Tensor, "examples summary"] | None = None
    """The source's summary, once an example; None where it is not given at every step."""
    fed: Float[Tensor, "rows fed"] | None = None
    """The last attentional vector (input feeding) or top layer's output (top-down attention); None without either."""
    coverage: Float[Tensor, "rows source"] | None = None
    """Sum of the attention weights so far; None for attention without coverage."""

    @property
    def num_rows(self) -> int:
        """Hypotheses of all examples together."""
        return self.recurrent.hidden.shape[1]

    def select(self, rows: Int[Tensor, "selected"], *, examples: Int[Tensor, "kept"] | None = None) -> "CarriedState":
        """The state of the hypotheses at `rows`; see `core.nn.step_decoder.DecoderState.select`."""
        memory, context = self.memory, self.context
        if examples is not None:
            memory = None if memory is None else memory.select(examples)
            context = None if context is None else context.index_select(0, examples)
        return self._replace(
            recurrent=self.recurrent.select(rows),
            memory=memory,
            context=context,
            fed=None if self.fed is None else self.fed.index_select(0, rows),
            coverage=None if self.coverage is None else self.coverage.index_select(0, rows),
        )

    def detach(self) -> "CarriedState":
        """The same values without their history: where truncated back-propagation through time stops (notes N6)."""
        return self._replace(
            recurrent=self.recurrent.detach(),
            memory=None if self.memory is None else self.memory.detach(),
            context=None if self.context is None else self.context.detach(),
            fed=None if self.fed is None else self.fed.detach(),
            coverage=None if self.coverage is None else self.coverage.detach(),
        )


class DecoderParts(NamedTuple):
    """What a decoder is made of."""

    config: DecoderConfig
    layers: DecoderLayers
    attention: Attention | None
    readout: Readout
    gate: nn.Linear | None
    """Of a gated context."""


class DecoderLoop:
    """A decoder at work: called once a step, its state inside.

    With `inputs` (rows, time, features), those of all steps, their products are made beforehand, and what need not wait
    for the step before is left to `outputs`, all steps at once.
    """

    def __init__(
        self, parts: DecoderParts, state: CarriedState, products: Products, *, inputs: Tensor | None = None
    ) -> None:
        self._state = state
        self._inputs = inputs
        self._kind = parts.config.context
        self._context = None if state.context is None else to_rows(state.context, state.num_rows)
        if inputs is not None:
            if self._context is not None:
                inputs = torch.cat([inputs, self._context.unsqueeze(1).expand(-1, inputs.shape[1], -1)], dim=-1)
                self._context = None
            inputs = inputs.transpose(0, 1)
        self._layers = parts.layers.loop(state.recurrent, products, inputs=inputs)
        self._attend = None
        if parts.attention is not None:
            assert state.memory is not None, "checked by the decoder"
            self._attend = parts.attention.bind(state.memory, products)
        self._gate = None if parts.gate is None else products([parts.gate.weight], bias=parts.gate.bias)
        self._reads_now = inputs is None or parts.config.feeds_inputs
        self._read = parts.readout.bind(products if self._reads_now else plain_products)
        self._fed = state.fed
        self._coverage = state.coverage
        self._features: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._contexts: list[Tensor] = []

    def __call__(self, inputs: Tensor | None, running: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features (before dropout) and attention weights of the next step.

        Args:
            inputs: (rows, features); None where those of all steps were given.
            running: (rows, 1), False where a row has ended and keeps its state; None where none has.
        """
        context, weights = self._context, None
        if isinstance(self._kind, AttentionBefore):
            context, weights = self._look(self._layers.hidden)
            if self._gate is not None:
                context = context * torch.sigmoid(self._gate(self._layers.hidden))
        parts = [part for part in (inputs, context, self._fed) if part is not None]
        below = None if not parts else parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if isinstance(self._kind, AttentionBetween):
            context, weights = self._look(self._layers.first(below, running))
            outputs = self._layers.above(context, running)
        else:
            outputs = self._layers.first(below, running)
            if isinstance(self._kind, AttentionAfter):
                context, weights = self._look(outputs)
        features = outputs
        if self._reads_now:
            # Inputs are read by a deep readout alone, which feeds nothing back and so has them here.
            features = self._read(context, outputs, outputs if inputs is None else inputs)
        self._keep(outputs if isinstance(self._kind, TopDown) else features, weights, running)
        if self._inputs is not None:
            self._features.append(features)
            if weights is not None:
                self._weights.append(weights)
            if context is not None and not self._reads_now:
                self._contexts.append(context)
        return features, weights

    def outputs(self) -> tuple[Tensor, Tensor | None]:
        """Features and attention weights of all steps, (rows, time, ...), where the inputs were given at the start."""
        assert self._inputs is not None, "steps whose inputs come one by one give their outputs one by one"
        features = torch.stack(self._features, dim=1)
        weights = torch.stack(self._weights, dim=1) if self._weights else None
        if not self._reads_now:
            context = torch.stack(self._contexts, dim=1) if self._contexts else None
            features = self._read(context, features, self._inputs)
        return features, weights

    def state(self) -> CarriedState:
        """The state after the last step."""
        return self._state._replace(recurrent=self._layers.state(), fed=self._fed, coverage=self._coverage)

    def _look(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Context and weights, a row a hypothesis."""
        assert self._attend is not None, "a decoder that looks has attention"
        assert self._state.memory is not None, "checked by the decoder"
        num_examples, num_source = self._state.memory.mask.shape
        coverage = None if self._coverage is None else self._coverage.reshape(num_examples, -1, num_source)
        context, weights = self._attend(query.reshape(num_examples, -1, query.shape[-1]), coverage)
        return context.flatten(0, 1), weights.flatten(0, 1)

    def _keep(self, given_on: Tensor, weights: Tensor | None, running: Tensor | None) -> None:
        fed = given_on if self._fed is not None else None
        coverage = None if self._coverage is None or weights is None else self._coverage + weights
        if running is not None:
            if fed is not None and self._fed is not None:
                fed = torch.where(running, fed, self._fed.to(fed.dtype))
            if coverage is not None and self._coverage is not None:
                coverage = torch.where(running, coverage, self._coverage.to(coverage.dtype))
        self._fed, self._coverage = fed, coverage


def to_rows(per_example: Tensor, num_rows: int) -> Tensor:
    """One row a hypothesis out of one an example."""
    num_examples = per_example.shape[0]
    if num_rows == num_examples:
        return per_example
    return per_example.unsqueeze(1).expand(-1, num_rows // num_examples, -1).flatten(0, 1)

"""A recurrent decoder over inputs that are vectors: embedded tokens, or the values of the step before (notes N10).

It stands between what turns tokens or values into vectors and the layer that scores the next ones
(`core.nn.decoders.token_decoder`, `core.nn.decoders.vector_decoder`).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.attention import Attention
from core.nn.cells import RecurrentState
from core.nn.decoders.attentive_targets import can_scan, run_scan
from core.nn.decoders.bridge import Bridge, Source, SourceShape, check_source
from core.nn.decoders.cell_loop import sequence_settings
from core.nn.decoders.decoder_config import AttentionBefore, AttentionBetween, DecoderConfig
from core.nn.decoders.decoder_layers import DecoderLayers
from core.nn.decoders.decoder_loop import CarriedState, DecoderLoop, DecoderParts, to_rows
from core.nn.decoders.loop_products import LoopProducts, plain_products
from core.nn.decoders.readout import Readout
from core.nn.lengths import check_lengths, valid_steps
from core.nn.recurrence.precision import check_like
from core.nn.recurrence.ragged import may_look_at


class DecoderOutput(NamedTuple):
    """What a decoder gives for a whole target."""

    features: Float[Tensor, "rows time readout"]
    """What the output layer reads; zeros in the padding."""
    attention: Float[Tensor, "rows time source"] | None
    """Weights over the source steps, zeros in the padding of both; None without attention."""
    state: CarriedState
    """The state after each target's last valid step."""


class Decoder(nn.Module):
    """Recurrent layers, attention and readout (`DecoderConfig`)."""

    def __init__(self, config: DecoderConfig, *, input_size: int, source: SourceShape) -> None:
        """The decoder of sources of that shape; `input_size` is the width of its inputs, without context and feeding."""
        super().__init__()
        if input_size < 1:
            raise ValueError(f"input_size must be at least 1, got {input_size}.")
        self.config = config
        self.input_size = input_size
        self.source = source
        hidden_size = config.recurrent.hidden_size
        attention = config.context.attention_config
        self.attention: Attention | None = None
        context_size = beside = source.summary_size if config.reads_summary else 0
        if attention is not None:
            self.attention = attention.build(query_size=hidden_size, memory_size=source.output_size)
            context_size = self.attention.context_size
        self.gate = None
        if isinstance(config.context, AttentionBefore):
            beside = context_size
            self.gate = nn.Linear(hidden_size, 1) if config.context.gated else None
        self.fed_size = config.fed_size
        self.layers = DecoderLayers(
            config.recurrent,
            input_size=input_size + beside + self.fed_size,
            context_size=context_size if isinstance(config.context, AttentionBetween) else 0,
        )
        self.bridge = Bridge(config.bridge, decoder=config.recurrent, source=source)
        self.readout = Readout(config, context_size=context_size, input_size=input_size)

    @property
    def output_size(self) -> int:
        """Width of the features."""
        return self.config.output_size

    def start(self, source: Source) -> CarriedState:
        """The state before the first step: one hypothesis an example, the source projected once for all steps.

        Raises:
            ValueError: if the source's shapes are not those the decoder was built for.
        """
        check_source(source, self.source, like=next(self.layers.parameters()))
        recurrent = self.bridge(source, self.layers.initial_state)
        memory = None if self.attention is None else self.attention.memory(source.outputs, source.lengths)
        num_examples = source.summary.shape[0]
        fed = source.outputs.new_zeros(num_examples, self.fed_size) if self.fed_size else None
        coverage = None
        if self.attention is not None and self.attention.has_coverage:
            coverage = source.outputs.new_zeros(num_examples, source.outputs.shape[1])
        context = source.summary if self.config.reads_summary else None
        return CarriedState(recurrent, memory, context, fed, coverage)

    def forward(
        self,
        inputs: Float[Tensor, "rows time features"],
        lengths: Int[Tensor, "rows"] | None,
        state: CarriedState,
    ) -> DecoderOutput:
        """Decode a target whose inputs are all known (teacher forcing, notes N7).

        Args:
            inputs: the input of every step; at least one step. What stands in the padding is not read.
            lengths: int64, valid steps of each target, 0 to time; None where every step is valid.
            state: what `start` gave, or the state after the steps before.

        Raises:
            ValueError: if a shape, dtype or device does not fit.
        """
        self._check(inputs, lengths, state)
        if lengths is not None and may_look_at(lengths) and bool((lengths == inputs.shape[1]).all()):
            lengths = None
        mask = None
        if lengths is not None:
            mask = valid_steps(lengths, inputs.shape[1]).unsqueeze(-1)
            inputs = inputs.masked_fill(~mask, 0.0)
        run = self._run_whole
        if self.config.is_stepped:
            run = self._run_scan if can_scan(self._parts(), inputs, lengths, state) else self._run_steps
        features, weights, state = run(inputs, lengths, state)
        features = self.drop(features)
        if mask is not None:
            features = features.masked_fill(~mask, 0.0)
            weights = None if weights is None else weights.masked_fill(~mask, 0.0)
        return DecoderOutput(features, weights, state)

    def loop(self, state: CarriedState, *, num_steps: int | None = None) -> DecoderLoop:
        """The decoder one step at a time; `num_steps`, where it is known, makes its backward pass cheaper.

        Raises:
            ValueError: in training, if noise of the recurrent layers is drawn once a sequence.
        """
        noise = sequence_settings(self.config.recurrent)
        if self.training and noise:
            raise ValueError(
                f"step by step, {', '.join(noise)} of recurrent would be drawn anew at every step. Train with teacher "
                "forcing alone, remove it, or call eval() first."
            )
        products = plain_products if num_steps is None else LoopProducts(num_steps)
        return DecoderLoop(self._parts(), state, products)

    def step(
        self, inputs: Float[Tensor, "rows features"], state: CarriedState
    ) -> tuple[Float[Tensor, "rows readout"], Float[Tensor, "rows source"] | None, CarriedState]:
        """One step: features, attention weights, the state after it."""
        self._check(inputs.unsqueeze(1), None, state)
        loop = self.loop(state)
        features, weights = loop(inputs)
        return self.drop(features), weights, loop.state()

    def drop(self, features: Tensor) -> Tensor:
        """Dropout on what the output layer reads."""
        return F.dropout(features, self.config.readout_dropout, self.training)

    def _parts(self) -> DecoderParts:
        return DecoderParts(self.config, self.layers, self.attention, self.readout, self.gate)

    def _run_whole(
        self, inputs: Tensor, lengths: Tensor | None, state: CarriedState
    ) -> tuple[Tensor, Tensor | None, CarriedState]:
        context = weights = None
        layer_inputs = inputs
        if state.context is not None:
            context = to_rows(state.context, state.num_rows).unsqueeze(1).expand(-1, inputs.shape[1], -1)
            layer_inputs = torch.cat([inputs, context], dim=-1)
        outputs, before = self.layers.run_first(layer_inputs, lengths, state.recurrent)
        if self.attention is not None:
            assert state.memory is not None, "checked in forward"
            num_examples = state.memory.mask.shape[0]
            # Hypotheses and time steps are queries alike.
            query = outputs.reshape(num_examples, -1, outputs.shape[-1])
            context, weights = self.attention(query, state.memory)
            context = context.reshape(*inputs.shape[:2], -1)
            weights = weights.reshape(*inputs.shape[:2], -1)
        outputs, recurrent = self.layers.run_above(outputs, before, context, lengths, state.recurrent)
        return self.readout(context, outputs, inputs), weights, state._replace(recurrent=recurrent)

    def _run_steps(
        self, inputs: Tensor, lengths: Tensor | None, state: CarriedState
    ) -> tuple[Tensor, Tensor | None, CarriedState]:
        num_steps = inputs.shape[1]
        running: list[Tensor | None] = [None] * num_steps
        if lengths is not None:
            running = list(valid_steps(lengths, num_steps).unsqueeze(-1).unbind(1))
        loop = DecoderLoop(self._parts(), state, LoopProducts(num_steps), inputs=inputs)
        for step in range(num_steps):
            loop(None, running[step])
        features, weights = loop.outputs()
        return features, weights, loop.state()

    def _run_scan(
        self, inputs: Tensor, lengths: Tensor | None, state: CarriedState
    ) -> tuple[Tensor, Tensor | None, CarriedState]:
        return run_scan(self._parts(), inputs, lengths, state)

    def _check(self, inputs: Tensor, lengths: Tensor | None, state: CarriedState) -> None:
        weight = next(self.layers.parameters())
        if inputs.ndim != 3 or inputs.shape[1] == 0 or inputs.shape[2] != self.input_size:
            raise ValueError(
                f"inputs must have shape (rows, time >= 1, {self.input_size}), got {tuple(inputs.shape)}. "
                f"The last axis is input_size={self.input_size}."
            )
        check_like(inputs, name="inputs", like=weight)
        if lengths is not None:
            check_lengths(lengths, of=inputs)
        self.check_state(state, num_rows=inputs.shape[0])

    def check_state(self, state: CarriedState, *, num_rows: int) -> None:
        """Refuse a state of another decoder, or of another number of rows.

        Raises:
            ValueError: saying what was expected and what was got.
        """
        if state.num_rows != num_rows:
            raise ValueError(f"the state is one of {state.num_rows} rows, got inputs of {num_rows}.")
        expected = {
            "memory": self.attention is not None,
            "context": self.config.reads_summary,
            "fed": self.fed_size > 0,
            "coverage": self.attention is not None and self.attention.has_coverage,
        }
        for name, wanted in expected.items():
            if (getattr(state, name) is not None) != wanted:
                raise ValueError(
                    f"state.{name} must {'be there' if wanted else 'be None'} for this decoder: the state comes from "
                    "another one. Begin with start()."
                )
        self._check_recurrent(state.recurrent, num_rows=num_rows)
        weight = next(self.layers.parameters())
        num_source = 0
        if self.attention is not None and state.memory is not None:
            self.attention.check_memory(state.memory, name="state.memory", like=weight)
            num_source = state.memory.mask.shape[1]
        num_contexts = 0 if state.context is None else state.context.shape[0]
        for name, part, shape in (
            ("fed", state.fed, (num_rows, self.fed_size)),
            ("coverage", state.coverage, (num_rows, num_source)),
            ("context", state.context, (num_contexts, self.source.summary_size)),
        ):
            if part is None:
                continue
            if part.shape != shape:
                raise ValueError(f"state.{name} must have shape {shape}, got {tuple(part.shape)}.")
            check_like(part, name=f"state.{name}", like=weight)
        per_example = state.context if state.memory is None else state.memory.mask
        if per_example is not None and num_rows != per_example.shape[0] and num_rows % max(1, per_example.shape[0]):
            raise ValueError(
                f"every example must have as many hypotheses as every other, got {state.num_rows} rows for "
                f"{per_example.shape[0]} examples."
            )

    def _check_recurrent(self, state: RecurrentState, *, num_rows: int) -> None:
        recurrent = self.config.recurrent
        if (state.cell is not None) != (recurrent.kind == "lstm"):
            raise ValueError(
                f"the state of a {recurrent.kind} has {'a' if recurrent.kind == 'lstm' else 'no'} cell state, got one "
                f"{'without' if state.cell is None else 'with'} it: it comes from another kind of cell."
            )
        shape = (recurrent.num_layers, num_rows, recurrent.hidden_size)
        weight = next(self.layers.parameters())
        for name, part in zip(RecurrentState._fields, state, strict=True):
            if part is None:
                continue
            if part.shape != shape:
                raise ValueError(
                    f"state.recurrent.{name} must have shape (layers, rows, hidden) = {shape}, got {tuple(part.shape)}."
                )
            check_like(part, name=f"state.recurrent.{name}", like=weight)

"""Recurrent layers over ragged batches: stacked, in one or two directions, of every cell (notes N2, N8, N9, N12, N13).

Padded batches run through PyTorch's dense kernels without packing, which would leave the fused CPU kernel: see
`core.nn.ragged` for the layout and `core.nn.kernels` for what runs each layer.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.cells import CELL_KINDS, NUM_GATES, CellKind, CellWeights, RecurrentState, Reset
from core.nn.initialisation import initialise_cell_
from core.nn.kernels import is_stepped, padding_weights, run_layer, run_stack
from core.nn.lengths import check_lengths
from core.nn.ragged import RaggedPlan, may_look_at, plan_blocks, plan_rectangle


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Which cell, how wide and how deep."""

    kind: CellKind
    """Cell: rnn_tanh, rnn_sigmoid, rnn_relu, lstm or gru."""
    hidden_size: int
    """Units per layer and direction."""
    num_layers: int = 1
    """Stacked layers, each reading the outputs of the one below."""
    bidirectional: bool = False
    """Add a backward sub-network over the same sequence; outputs are twice as wide."""
    dropout: float = 0.0
    """Probability of zeroing a unit between layers, in [0, 1)."""
    residual: bool = False
    """Add each layer's input to its output, from the second layer on (Wu et al., arXiv:1609.08144, section 3.1)."""
    learn_initial_state: bool = False
    """Learn the state before the first step instead of starting from zeros."""
    reset: Reset | None = None
    """GRU only: reset gate `after` the recurrent product (PyTorch's, the default) or `before` (Cho et al. 2014)."""

    def __post_init__(self) -> None:
        if self.kind not in CELL_KINDS:
            raise ValueError(f"kind must be one of {', '.join(CELL_KINDS)}, got {self.kind!r}.")
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {self.hidden_size}.")
        if self.num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {self.num_layers}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}.")
        if self.dropout > 0 and self.num_layers == 1:
            raise ValueError(
                f"dropout={self.dropout} does nothing with num_layers=1: it acts between layers. "
                "Remove it or add a layer."
            )
        if self.residual and self.num_layers == 1:
            raise ValueError(
                "residual=true does nothing with num_layers=1: it starts at the second layer. Remove it or add a layer."
            )
        if self.reset is not None and self.kind != "gru":
            raise ValueError(
                f"reset={self.reset!r} does nothing with kind={self.kind!r}: only a GRU reads it. Remove it."
            )
        if self.reset is not None and self.reset not in get_args(Reset):
            raise ValueError(f"reset must be one of {', '.join(get_args(Reset))}, got {self.reset!r}.")

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of the outputs: the directions side by side, forward first."""
        return self.num_directions * self.hidden_size


class Recurrent(nn.Module):
    """A stack of recurrent layers over padded sequences with explicit lengths.

    Same parameters, names and results as `torch.nn.LSTM`, `GRU` and `RNN` over packed sequences, so their state dicts
    load; no packing and no sorted input. Outputs are zero in the padding, and what stands there is never read.
    """

    def __init__(self, config: RecurrentConfig, *, input_size: int) -> None:
        super().__init__()
        if input_size < 1:
            raise ValueError(f"input_size must be at least 1, got {input_size}.")
        self.config = config
        self.input_size = input_size
        self.reset: Reset = config.reset or "after"
        gated_size = NUM_GATES[config.kind] * config.hidden_size
        for index, suffix in enumerate(self._suffixes()):
            fan_in = input_size if index < config.num_directions else config.output_size
            self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(torch.empty(gated_size, fan_in)))
            self.register_parameter(f"weight_hh_{suffix}", nn.Parameter(torch.empty(gated_size, config.hidden_size)))
            self.register_parameter(f"bias_ih_{suffix}", nn.Parameter(torch.empty(gated_size)))
            self.register_parameter(f"bias_hh_{suffix}", nn.Parameter(torch.empty(gated_size)))
        if config.learn_initial_state:
            shape = (config.num_layers * config.num_directions, 1, config.hidden_size)
            self.initial_hidden = nn.Parameter(torch.empty(shape))
            if config.kind == "lstm":
                self.initial_cell = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew (`core.nn.initialisation`); a learned initial state starts at zero."""
        for weights in self._weights():
            initialise_cell_(weights, kind=self.config.kind)
        if self.config.learn_initial_state:
            nn.init.zeros_(self.initial_hidden)
            if self.config.kind == "lstm":
                nn.init.zeros_(self.initial_cell)

    @property
    def output_size(self) -> int:
        """Width of the outputs: directions x hidden."""
        return self.config.output_size

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.config}, input_size={self.input_size}"

    def initial_state(self, batch_size: int) -> RecurrentState:
        """The state before the first step: zeros, or what was learned."""
        config = self.config
        shape = (config.num_layers * config.num_directions, batch_size, config.hidden_size)
        if config.learn_initial_state:
            hidden: Tensor = self.initial_hidden.expand(shape)
            return RecurrentState(hidden, self.initial_cell.expand(shape) if config.kind == "lstm" else None)
        like = self._weights()[0].weight_hh
        return RecurrentState(like.new_zeros(shape), like.new_zeros(shape) if config.kind == "lstm" else None)

    def forward(
        self,
        inputs: Float[Tensor, "batch time features"],
        lengths: Int[Tensor, "batch"] | None,
        state: RecurrentState | None = None,
    ) -> tuple[Float[Tensor, "batch time outputs"], RecurrentState]:
        """Outputs of the last layer, and the state of every layer after each sequence's last valid step.

        The backward direction reads each sequence from its own last step to its first, so its state is the one after
        the first step. A sequence of length 0 has no outputs, and its state passes through unchanged.

        Exported, the batch size may vary and the number of steps is fixed (PyTorch unrolls its kernels): export at the
        longest length and pad, which changes no result.

        Args:
            inputs: padded sequences; at least one step.
            lengths: int64, valid steps of each sequence, 0 to time; None where every step of every sequence is valid.
            state: the state before the first step; None for `initial_state`.

        Raises:
            ValueError: if a shape, dtype or device does not fit; the message says what was expected and what was got.
        """
        self._check(inputs, lengths, state)
        if state is None:
            state = self.initial_state(inputs.shape[0])
        stepped = is_stepped(self.config.kind, reset=self.reset)
        if lengths is not None and may_look_at(lengths) and bool((lengths == inputs.shape[1]).all()):
            lengths = None
        if lengths is None and not stepped and not self.config.residual:
            return self._run_dense(inputs, state)
        return self._run_ragged(inputs, lengths, state)

    def _run_dense(self, inputs: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        config = self.config
        outputs, hidden, cell = run_stack(
            inputs,
            kind=config.kind,
            hidden=state.hidden,
            cell=state.cell,
            weights=self._weights(),
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            training=self.training,
            batch_first=True,
        )
        return outputs, RecurrentState(hidden, cell)

    def _run_ragged(
        self, inputs: Tensor, lengths: Tensor | None, state: RecurrentState
    ) -> tuple[Tensor, RecurrentState]:
        config = self.config
        plan = self._plan(inputs, lengths)
        layer_inputs = plan.gather(inputs)
        weights = self._weights()
        outputs = layer_inputs
        hiddens, cells = [], []
        for layer in range(config.num_layers):
            directions = []
            for direction in range(config.num_directions):
                index = layer * config.num_directions + direction
                sequence = plan.reverse(layer_inputs) if direction else layer_inputs
                outputs, hidden, cell = self._run_direction(
                    sequence,
                    plan=plan,
                    weights=weights[index],
                    hidden=state.hidden[index],
                    cell=None if state.cell is None else state.cell[index],
                )
                hiddens.append(self._keep_empty(hidden, lengths, state.hidden[index]))
                cells.append(cell)
                directions.append(plan.reverse(outputs) if direction else outputs)
            outputs = torch.cat(directions, dim=-1) if config.bidirectional else outputs
            if layer < config.num_layers - 1:
                outputs = F.dropout(outputs, config.dropout, self.training)
            if config.residual and layer > 0:
                outputs = outputs + layer_inputs
            layer_inputs = outputs
        last_cells = [cell for cell in cells if cell is not None]
        final = RecurrentState(torch.stack(hiddens), torch.stack(last_cells) if last_cells else None)
        return plan.scatter(outputs, num_steps=inputs.shape[1]), final

    def _run_direction(
        self, sequence: Tensor, *, plan: RaggedPlan, weights: CellWeights, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One layer in one direction: its outputs in the flat layout, hidden and cell state in the batch's order."""
        column = padding_weights(self.config.kind, weight_ih=weights.weight_ih) if plan.has_padding else None
        if column is not None:
            padding = (~plan.valid).unsqueeze(-1).to(sequence.dtype)
            sequence = torch.cat([sequence, padding], dim=-1)
            weights = weights._replace(weight_ih=torch.cat([weights.weight_ih, column], dim=-1))
        hidden = hidden.index_select(0, plan.order)
        cell = None if cell is None else cell.index_select(0, plan.order)
        outputs: list[Tensor] = []
        ended: list[Tensor] = []
        # One split instead of a slice a block: each slice's backward would fill the whole layout.
        for block, rows in zip(plan.blocks, torch.split(sequence, [block.size for block in plan.blocks]), strict=True):
            if cell is not None:
                ended.append(cell[block.num_rows :])
                cell = cell[: block.num_rows]
            block_outputs, hidden, cell = run_layer(
                rows.reshape(block.stop - block.start, block.num_rows, -1),
                kind=self.config.kind,
                reset=self.reset,
                hidden=hidden[: block.num_rows],
                cell=cell,
                weights=weights,
            )
            outputs.append(block_outputs.flatten(0, 1))
        flat = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        if cell is not None:
            # Rows end from the last to the first: longest sequences stay until the last block.
            cell = torch.cat([cell, *reversed(ended)]).index_select(0, plan.rank)
        return flat, flat.index_select(0, plan.last), cell

    @staticmethod
    def _keep_empty(hidden: Tensor, lengths: Tensor | None, before: Tensor) -> Tensor:
        """A sequence of length 0 has no last step: its state is the one it came with."""
        if lengths is None:
            return hidden
        return torch.where((lengths > 0).unsqueeze(-1), hidden, before.to(hidden.dtype))

    def _plan(self, inputs: Tensor, lengths: Tensor | None) -> RaggedPlan:
        batch_size, num_steps = inputs.shape[:2]
        if lengths is None:
            full = torch.full((batch_size,), num_steps, dtype=torch.int64, device=inputs.device)
            return plan_rectangle(full, num_steps=num_steps)._replace(has_padding=False)
        if may_look_at(lengths):
            return plan_blocks(lengths, num_steps=num_steps, block_cost=self._block_cost(inputs.dtype))
        return plan_rectangle(lengths, num_steps=num_steps)

    def _block_cost(self, dtype: torch.dtype) -> float:
        """What one more block costs on CPU, in steps of one sequence.

        Measured over hidden sizes 64 to 512: the fused LSTM kernel reorders its weights at every call, which grows as a
        step does; the rest is a fixed 0.2-0.4 ms against a step that grows with the weights.
        """
        fused = self.config.kind == "lstm" and dtype != torch.float64
        weights_per_gate = self.config.hidden_size * (self.config.hidden_size + self.input_size)
        return (64 if fused else 4) + 1e6 / weights_per_gate

    def _suffixes(self) -> list[str]:
        """Names of layers and directions in `torch.nn`'s order."""
        directions = ("", "_reverse") if self.config.bidirectional else ("",)
        return [f"l{layer}{direction}" for layer in range(self.config.num_layers) for direction in directions]

    def _weights(self) -> list[CellWeights]:
        return [
            CellWeights(*(getattr(self, f"{name}_{suffix}") for name in CellWeights._fields))
            for suffix in self._suffixes()
        ]

    def _check(self, inputs: Tensor, lengths: Tensor | None, state: RecurrentState | None) -> None:
        config = self.config
        weight = self._weights()[0].weight_hh
        if inputs.ndim != 3 or inputs.shape[-1] != self.input_size or inputs.shape[1] == 0:
            raise ValueError(
                f"inputs must have shape (batch, time >= 1, {self.input_size}), got {tuple(inputs.shape)}. "
                f"The last axis is input_size={self.input_size}."
            )
        any_dtype = inputs.device == weight.device and torch.is_autocast_enabled(weight.device.type)
        if inputs.device != weight.device or (inputs.dtype != weight.dtype and not any_dtype):
            raise ValueError(
                f"inputs must be {weight.dtype} on {weight.device}, as the weights are, got {inputs.dtype} on "
                f"{inputs.device}."
            )
        if lengths is not None:
            check_lengths(lengths, batch_size=inputs.shape[0], device=inputs.device)
        if state is None:
            return
        if (state.cell is not None) != (config.kind == "lstm"):
            raise ValueError(
                f"the state of a {config.kind} has {'a' if config.kind == 'lstm' else 'no'} cell state, got one "
                f"{'without' if state.cell is None else 'with'} it: it comes from another kind of cell."
            )
        shape = (config.num_layers * config.num_directions, inputs.shape[0], config.hidden_size)
        for name, part in zip(RecurrentState._fields, state, strict=True):
            if part is None:
                continue
            if part.shape != shape:
                raise ValueError(
                    f"state.{name} must have shape (layers x directions, batch, hidden) = {shape}, "
                    f"got {tuple(part.shape)}."
                )
            if part.device != inputs.device or (part.dtype != inputs.dtype and not any_dtype):
                raise ValueError(
                    f"state.{name} must be {inputs.dtype} on {inputs.device}, as the inputs are, got {part.dtype} on "
                    f"{part.device}."
                )

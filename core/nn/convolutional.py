"""Convolutional recurrent layers over ragged batches of image sequences (notes N14, with N2, N8, N9, N12 and N13).

The layout of a ragged batch is that of `core.nn.recurrence.ragged`; a row of its flat tensor is one image.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.lengths import check_lengths
from core.nn.recurrence.convolutional_cells import (
    NUM_CONV_GATES,
    ConvCellKind,
    ConvCellWeights,
    ConvState,
    conv_gru_update,
    conv_lstm_update,
    conv_rnn_update,
    initialise_conv_cell_,
    project_maps,
)
from core.nn.recurrence.precision import check_like
from core.nn.recurrence.ragged import RaggedPlan, may_look_at, plan_blocks, plan_rectangle

# Numbers (8 MiB in float32).
_GATES_IN_CACHE = 2**21


@dataclass(frozen=True, kw_only=True)
class ConvRecurrentConfig:
    """Which convolutional cell, how wide and how deep."""

    kind: ConvCellKind
    """Cell: conv_rnn, conv_lstm or conv_gru."""
    hidden_channels: int
    """Channels of the state per layer and direction."""
    kernel_size: int = 3
    """Height and width of the filters over inputs and state, odd: the map keeps its size."""
    num_layers: int = 1
    """Stacked layers, each reading the outputs of the one below."""
    bidirectional: bool = False
    """Add a backward sub-network over the same sequence; outputs have twice the channels."""
    dropout: float = 0.0
    """Probability of zeroing a whole channel of one time step between layers, drawn anew each step, in [0, 1)."""
    residual: bool = False
    """Add each layer's input to its output, from the second layer on (Wu et al., arXiv:1609.08144, section 3.1)."""
    peepholes: bool = False
    """conv_lstm only: the gates see the cell state, with one weight a channel (Shi et al. 2015, eq. 3)."""
    norm_groups: int | None = None
    """Group norm on each gate in this many groups of channels (Wu & He, ECCV 2018); null for no norm."""

    def __post_init__(self) -> None:
        if self.kind not in NUM_CONV_GATES:
            raise ValueError(f"kind must be one of {', '.join(NUM_CONV_GATES)}, got {self.kind!r}.")
        if self.hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1, got {self.hidden_channels}.")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd, got {self.kernel_size}: an even filter has no centre, and the map would "
                f"change its size. Set {max(1, self.kernel_size - 1)} or {max(3, self.kernel_size + 1)}."
            )
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
        if self.peepholes and self.kind != "conv_lstm":
            raise ValueError(f"peepholes=true does nothing with kind={self.kind!r}: it has no cell state. Remove it.")
        if self.norm_groups is not None and (self.norm_groups < 1 or self.hidden_channels % self.norm_groups):
            raise ValueError(
                f"norm_groups must divide hidden_channels={self.hidden_channels} into equal groups, "
                f"got {self.norm_groups}."
            )

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_channels(self) -> int:
        """Channels of the outputs: the directions side by side, forward first."""
        return self.num_directions * self.hidden_channels


class ConvRecurrent(nn.Module):
    """A stack of convolutional recurrent layers over padded image sequences with explicit lengths.

    Outputs are zero in the padding, and what stands there is never read. The initial state is zero. Computation and
    outputs are channels-last where the inputs or the weights are.
    """

    def __init__(self, config: ConvRecurrentConfig, *, input_channels: int) -> None:
        super().__init__()
        if input_channels < 1:
            raise ValueError(f"input_channels must be at least 1, got {input_channels}.")
        self.config = config
        self.input_channels = input_channels
        gated = NUM_CONV_GATES[config.kind] * config.hidden_channels
        kernel = (config.kernel_size, config.kernel_size)
        for index, suffix in enumerate(self._suffixes()):
            fan_in = input_channels if index < config.num_directions else config.output_channels
            self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(torch.empty(gated, fan_in, *kernel)))
            self.register_parameter(
                f"weight_hh_{suffix}", nn.Parameter(torch.empty(gated, config.hidden_channels, *kernel))
            )
            self.register_parameter(f"bias_{suffix}", nn.Parameter(torch.empty(gated)))
            gain = None if config.norm_groups is None else nn.Parameter(torch.empty(gated))
            self.register_parameter(f"gain_{suffix}", gain)
            peephole = nn.Parameter(torch.empty(3, config.hidden_channels)) if config.peepholes else None
            self.register_parameter(f"peephole_{suffix}", peephole)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew (`core.nn.recurrence.convolutional_cells.initialise_conv_cell_`)."""
        for weights in self._weights():
            initialise_conv_cell_(weights, kind=self.config.kind)

    @property
    def output_channels(self) -> int:
        """Channels of the outputs: directions x hidden."""
        return self.config.output_channels

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.config}, input_channels={self.input_channels}"

    def initial_state(self, batch_size: int, *, height: int, width: int) -> ConvState:
        """The state before the first step: zeros."""
        config = self.config
        shape = (config.num_layers * config.num_directions, batch_size, config.hidden_channels, height, width)
        like = self._weights()[0].weight_hh
        return ConvState(like.new_zeros(shape), like.new_zeros(shape) if config.kind == "conv_lstm" else None)

    def forward(
        self,
        inputs: Float[Tensor, "batch time channels height width"],
        lengths: Int[Tensor, "batch"] | None,
        state: ConvState | None = None,
    ) -> tuple[Float[Tensor, "batch time outputs height width"], ConvState]:
        """Outputs of the last layer, and the state of every layer after each sequence's last valid step.

        The backward direction reads each sequence from its own last step to its first, so its state is the one after
        the first step. A sequence of length 0 has no outputs, and its state passes through unchanged.

        Under autocast outputs and hidden state are in half precision, the cell state in that of the weights.

        Exported, the batch size may vary; the number of steps and the size of the map are fixed.

        Args:
            inputs: padded sequences of images or feature maps; at least one step.
            lengths: int64, valid steps of each sequence, 0 to time; None where every step of every sequence is valid.
            state: the state before the first step; None for `initial_state`.

        Raises:
            ValueError: if a shape, dtype or device does not fit; the message says what was expected and what was got.
            TypeError: for a state that is none.
        """
        self._check(inputs, lengths, state)
        config = self.config
        num_steps, height, width = inputs.shape[1], *inputs.shape[3:]
        if state is None:
            state = self.initial_state(inputs.shape[0], height=height, width=width)
        plan = _plan(inputs, lengths)
        layout = _Layout(channels_last=self._is_channels_last(inputs), height=height, width=width)
        layer_inputs = layout.to_maps(plan.gather(layout.to_rows(inputs)))
        hiddens, cells = [], []
        outputs = layer_inputs
        for layer in range(config.num_layers):
            directions = []
            for direction in range(config.num_directions):
                index = layer * config.num_directions + direction
                outputs, hidden, cell = self._run_direction(
                    layout.reverse(layer_inputs, plan) if direction else layer_inputs,
                    plan=plan,
                    weights=self._weights()[index],
                    hidden=layout.arrange(state.hidden[index].index_select(0, plan.order)),
                    cell=None if state.cell is None else layout.arrange(state.cell[index].index_select(0, plan.order)),
                )
                hiddens.append(hidden.index_select(0, plan.rank))
                cells.append(None if cell is None else cell.index_select(0, plan.rank))
                directions.append(layout.reverse(outputs, plan) if direction else outputs)
            outputs = torch.cat(directions, dim=1) if config.bidirectional else outputs
            if layer < config.num_layers - 1:
                outputs = F.dropout2d(outputs, config.dropout, self.training)
            if config.residual and layer > 0:
                outputs = outputs + layer_inputs
            layer_inputs = outputs
        last_cells = [cell for cell in cells if cell is not None]
        final = ConvState(torch.stack(hiddens), torch.stack(last_cells) if last_cells else None)
        padded = plan.scatter(layout.to_rows(outputs), num_steps=num_steps)
        return layout.to_maps(padded), final

    def _run_direction(
        self, maps: Tensor, *, plan: RaggedPlan, weights: ConvCellWeights, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One layer in one direction: its outputs in the flat layout, hidden and cell state in the plan's order."""
        sizes = [block.num_rows for block in plan.blocks for _ in range(block.start, block.stop)]
        at_once = _projects_at_once(maps, weights=weights)
        steps = torch.split(project_maps(maps, weights=weights) if at_once else maps, sizes)
        valid = torch.split(plan.valid.reshape(-1, 1, 1, 1), sizes) if plan.has_padding else [None] * len(sizes)
        outputs, ended_hiddens, ended_cells = [], [], []
        for num_rows, step, mask in zip(sizes, steps, valid, strict=True):
            if num_rows != hidden.shape[0]:
                # Longest sequences are first: the rows behind have ended, and their state is final.
                ended_hiddens.append(hidden[num_rows:])
                hidden = hidden[:num_rows]
                if cell is not None:
                    ended_cells.append(cell[num_rows:])
                    cell = cell[:num_rows]
            projected = step if at_once else project_maps(step, weights=weights)
            new_hidden, new_cell = self._update(projected, hidden=hidden, cell=cell, weights=weights)
            # Under autocast the outputs are in half precision; the cell state, a sum over time, is not.
            new_hidden = new_hidden.to(projected.dtype)
            hidden = new_hidden if mask is None else torch.where(mask, new_hidden, hidden.to(new_hidden.dtype))
            if cell is not None and new_cell is not None:
                cell = new_cell if mask is None else torch.where(mask, new_cell, cell)
            outputs.append(hidden)
        hidden = torch.cat([hidden, *(part.to(hidden.dtype) for part in reversed(ended_hiddens))])
        cell = None if cell is None else torch.cat([cell, *reversed(ended_cells)])
        return torch.cat(outputs), hidden, cell

    def _update(
        self, projected: Tensor, *, hidden: Tensor, cell: Tensor | None, weights: ConvCellWeights
    ) -> tuple[Tensor, Tensor | None]:
        groups = self.config.norm_groups
        if cell is not None:
            return conv_lstm_update(projected, hidden=hidden, cell=cell, weights=weights, norm_groups=groups)
        update = conv_gru_update if self.config.kind == "conv_gru" else conv_rnn_update
        return update(projected, hidden=hidden, weights=weights, norm_groups=groups), None

    def _is_channels_last(self, inputs: Tensor) -> bool:
        """The layout is kept, not chosen: PyTorch's convolutions go channels-last as soon as one operand is.

        On CPU neither wins everywhere: full batches train equally fast within 5 %, ragged ones up to 15 % slower in
        channels-last.
        """
        weight = self._weights()[0].weight_hh
        by_inputs = inputs.stride(2) == 1 and inputs.shape[3] * inputs.shape[4] > 1
        return by_inputs or (weight.stride(1) == 1 and self.config.kernel_size > 1)

    def _suffixes(self) -> list[str]:
        """Names of layers and directions in `torch.nn`'s order."""
        directions = ("", "_reverse") if self.config.bidirectional else ("",)
        return [f"l{layer}{direction}" for layer in range(self.config.num_layers) for direction in directions]

    def _weights(self) -> list[ConvCellWeights]:
        return [
            ConvCellWeights(*(getattr(self, f"{name}_{suffix}") for name in ConvCellWeights._fields))
            for suffix in self._suffixes()
        ]

    def _check(self, inputs: Tensor, lengths: Tensor | None, state: ConvState | None) -> None:
        config = self.config
        if inputs.ndim != 5 or inputs.shape[2] != self.input_channels or 0 in inputs.shape[1:]:
            raise ValueError(
                f"inputs must have shape (batch, time >= 1, {self.input_channels}, height >= 1, width >= 1), "
                f"got {tuple(inputs.shape)}. They are batch-first; their channels are the layer's "
                f"input_channels={self.input_channels}."
            )
        weight = self._weights()[0].weight_hh
        check_like(inputs, name="inputs", like=weight)
        if config.norm_groups == config.hidden_channels and inputs.shape[3] * inputs.shape[4] == 1:
            raise ValueError(
                f"norm_groups={config.norm_groups} on maps of 1 x 1 leaves one value a group, which a norm makes 0. "
                "Set fewer groups."
            )
        if lengths is not None:
            check_lengths(lengths, of=inputs)
        if state is None:
            return
        if not isinstance(state, ConvState):
            raise TypeError(f"state must be a ConvState(hidden, cell), got {type(state).__name__}.")
        if (state.cell is not None) != (config.kind == "conv_lstm"):
            raise ValueError(
                f"the state of a {config.kind} has {'a' if config.kind == 'conv_lstm' else 'no'} cell state, got one "
                f"{'without' if state.cell is None else 'with'} it: it comes from another kind of cell."
            )
        shape = (
            config.num_layers * config.num_directions,
            inputs.shape[0],
            config.hidden_channels,
            *inputs.shape[3:],
        )
        for name, part in zip(ConvState._fields, state, strict=True):
            if part is None:
                continue
            if part.shape != shape:
                raise ValueError(
                    f"state.{name} must have shape (layers x directions, batch, hidden, height, width) = {shape}, "
                    f"got {tuple(part.shape)}."
                )
            check_like(part, name=f"state.{name}", like=inputs, like_name="the inputs are")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How an image becomes a row of numbers, which a plan moves, and back: in the order it lies in memory."""

    channels_last: bool
    height: int
    width: int

    def to_rows(self, maps: Float[Tensor, "*rows channels height width"]) -> Float[Tensor, "*rows numbers"]:
        return (maps.movedim(-3, -1) if self.channels_last else maps).flatten(-3)

    def to_maps(self, rows: Float[Tensor, "*rows numbers"]) -> Float[Tensor, "*rows channels height width"]:
        # The channels are counted, not left to a -1, which an empty batch could not resolve.
        num_channels = rows.shape[-1] // (self.height * self.width)
        if self.channels_last:
            return rows.reshape(*rows.shape[:-1], self.height, self.width, num_channels).movedim(-1, -3)
        return rows.reshape(*rows.shape[:-1], num_channels, self.height, self.width)

    def reverse(
        self, maps: Float[Tensor, "rows channels height width"], plan: RaggedPlan
    ) -> Float[Tensor, "rows channels height width"]:
        return self.to_maps(plan.reverse(self.to_rows(maps)))

    def arrange(self, maps: Float[Tensor, "rows channels height width"]) -> Float[Tensor, "rows channels height width"]:
        return maps.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def _projects_at_once(maps: Tensor, *, weights: ConvCellWeights) -> bool:
    """Whether the inputs of all steps go through one convolution, which no state has to wait for.

    Measured on CPU, training: one convolution is up to 18 % faster than one a step while its result, the gates of all
    steps, stays in the cache, and up to 9 % slower beyond; it is also memory held for the whole sequence. An
    accelerator is filled better by one large convolution than by many small ones, and a trace must not depend on sizes.
    """
    if not may_look_at(maps):
        return True
    num_rows, _, height, width = maps.shape
    return num_rows * weights.bias.shape[0] * height * width <= _GATES_IN_CACHE


def _plan(inputs: Tensor, lengths: Tensor | None) -> RaggedPlan:
    batch_size, num_steps = inputs.shape[:2]
    if lengths is None:
        full = torch.full((batch_size,), num_steps, dtype=torch.int64, device=inputs.device)
        return plan_rectangle(full, num_steps=num_steps)._replace(has_padding=False)
    if may_look_at(lengths):
        # A step of one image costs more than any cut: rows leave the batch as soon as their sequence ends.
        return plan_blocks(lengths, num_steps=num_steps, block_cost=None)
    return plan_rectangle(lengths, num_steps=num_steps)

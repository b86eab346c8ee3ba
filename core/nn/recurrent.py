"""Recurrent layers over ragged batches: stacked, in one or two directions, of every cell (notes N2, N8, N9, N12, N13).

Padded batches run without packing, which would leave the fused CPU kernel: see `core.nn.recurrence.ragged` for the layout and
`core.nn.recurrence.kernels` for what runs each layer.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.cells import NUM_GATES, CellWeights, InputWeights, NormWeights, RecurrentState, Reset
from core.nn.dropout import locked_mask
from core.nn.lengths import check_lengths
from core.nn.recurrence.initialisation import initialise_cell_
from core.nn.recurrence.kernels import LayerWeights, Method, choose_method, run_direction, run_stack
from core.nn.recurrence.precision import check_like
from core.nn.recurrence.ragged import RaggedPlan, may_look_at, plan_blocks, plan_dense, plan_rectangle
from core.nn.recurrent_config import MIN_KINDS, RecurrentConfig

__all__ = ["Recurrent", "RecurrentConfig"]


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
        for index, suffix in enumerate(self._suffixes()):
            self._register_layer(suffix, input_size if index < config.num_directions else config.output_size)
        if config.learn_initial_state:
            shape = (config.num_layers * config.num_directions, 1, config.hidden_size)
            self.initial_hidden = nn.Parameter(torch.empty(shape))
            if config.kind == "lstm":
                self.initial_cell = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def _register_layer(self, suffix: str, fan_in: int) -> None:
        config = self.config
        gated_size = NUM_GATES[config.kind] * config.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gated_size, fan_in)}
        if config.kind in MIN_KINDS:
            shapes |= {"bias_ih": (gated_size,)}
        else:  # in the order of `torch.nn`
            shapes |= {
                "weight_hh": (gated_size, config.hidden_size),
                "bias_ih": (gated_size,),
                "bias_hh": (gated_size,),
            }
        if config.layer_norm:
            shapes |= {"gain_ih": (gated_size,), "gain_hh": (gated_size,)}
            if config.kind == "lstm":
                shapes |= {"gain_cell": (config.hidden_size,), "bias_cell": (config.hidden_size,)}
        for name, shape in shapes.items():
            self.register_parameter(f"{name}_{suffix}", nn.Parameter(torch.empty(shape)))

    def reset_parameters(self) -> None:
        """Draw the weights anew (`core.nn.recurrence.initialisation`); a learned initial state starts at zero."""
        for layer in self._layers():
            initialise_cell_(layer.cell, kind=self.config.kind, norm=layer.norm, forget_bias=self.config.forget_bias)
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
        like = self._parameter("weight_ih", "l0")
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

        First derivatives only: most layers' backward pass is written by hand, and refuses to be differentiated.

        Exported, the batch size may vary and the number of steps is fixed (PyTorch unrolls its kernels): export at the
        longest length and pad, which changes no result.

        Args:
            inputs: padded sequences; at least one step.
            lengths: int64, valid steps of each sequence, 0 to time; None where every step of every sequence is valid.
            state: the state before the first step; None for `initial_state`.

        Raises:
            ValueError: if a shape, dtype or device does not fit; the message says what was expected and what was got.
            TypeError: for a state that is none.
        """
        self._check(inputs, lengths, state)
        if state is None:
            state = self.initial_state(inputs.shape[0])
        layers = self._dropped(self._layers())
        if lengths is not None and may_look_at(lengths) and bool((lengths == inputs.shape[1]).all()):
            lengths = None
        method = choose_method(self.config, like=inputs, ragged=lengths is not None, training=self.training)
        if lengths is None and method == "fused" and not (self.config.residual or self.config.locked_dropout):
            return self._run_dense(inputs, state, layers)
        return self._run_layers(inputs, lengths, state, layers, method)

    def _run_dense(
        self, inputs: Tensor, state: RecurrentState, layers: list[LayerWeights]
    ) -> tuple[Tensor, RecurrentState]:
        config = self.config
        outputs, hidden, cell = run_stack(
            inputs,
            kind=config.kind,
            hidden=state.hidden,
            cell=state.cell,
            weights=[layer.cell for layer in layers if isinstance(layer.cell, CellWeights)],
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            training=self.training,
            batch_first=True,
        )
        return outputs, RecurrentState(hidden, cell)

    def _run_layers(
        self,
        inputs: Tensor,
        lengths: Tensor | None,
        state: RecurrentState,
        layers: list[LayerWeights],
        method: Method,
    ) -> tuple[Tensor, RecurrentState]:
        config = self.config
        plan = self._plan(inputs, lengths, method)
        layer_inputs = plan.gather(inputs)
        outputs = layer_inputs
        hiddens, cells = [], []
        for layer in range(config.num_layers):
            directions = []
            for direction in range(config.num_directions):
                index = layer * config.num_directions + direction
                before = state.hidden[index], None if state.cell is None else state.cell[index]
                run = run_direction(
                    plan.reverse(layer_inputs) if direction else layer_inputs,
                    plan=plan,
                    method=method,
                    config=config,
                    weights=layers[index],
                    hidden=before[0],
                    cell=before[1],
                    training=self.training,
                )
                hiddens.append(self._keep_empty(run.hidden, lengths, before[0]))
                if run.cell is not None and before[1] is not None:
                    cells.append(self._keep_empty(run.cell, lengths, before[1]))
                directions.append(plan.reverse(run.outputs) if direction else run.outputs)
            outputs = torch.cat(directions, dim=-1) if config.bidirectional else directions[0]
            if layer < config.num_layers - 1:
                outputs = self._drop(outputs, plan, inputs)
            if config.residual and layer > 0:
                outputs = outputs + layer_inputs
            layer_inputs = outputs
        final = RecurrentState(torch.stack(hiddens), torch.stack(cells) if cells else None)
        return plan.scatter(outputs, num_steps=inputs.shape[1]), final

    def _drop(self, outputs: Tensor, plan: RaggedPlan, inputs: Tensor) -> Tensor:
        """Dropout between layers, in the flat layout."""
        config = self.config
        if not (self.training and config.locked_dropout):
            return F.dropout(outputs, config.dropout, self.training)
        batch_size, num_steps = inputs.shape[:2]
        mask = locked_mask(outputs.new_empty(batch_size, outputs.shape[1]), probability=config.dropout)
        # `source` numbers the rows of (batch x time).
        return outputs * mask.index_select(0, plan.source // num_steps)

    def _dropped(self, layers: list[LayerWeights]) -> list[LayerWeights]:
        """The layers with recurrent weights zeroed, the same for every sequence and step of the call."""
        if not (self.training and self.config.weight_drop):
            return layers
        dropped = []
        for layer in layers:
            assert isinstance(layer.cell, CellWeights)
            weight = F.dropout(layer.cell.weight_hh, self.config.weight_drop)
            dropped.append(layer._replace(cell=layer.cell._replace(weight_hh=weight)))
        return dropped

    @staticmethod
    def _keep_empty(last: Tensor, lengths: Tensor | None, before: Tensor) -> Tensor:
        """A sequence of length 0 has no last step: its state is the one it came with."""
        if lengths is None:
            return last
        return torch.where((lengths > 0).unsqueeze(-1), last, before.to(last.dtype))

    def _plan(self, inputs: Tensor, lengths: Tensor | None, method: Method) -> RaggedPlan:
        batch_size, num_steps = inputs.shape[:2]
        if lengths is None:
            return plan_dense(batch_size, num_steps=num_steps, device=inputs.device)
        if may_look_at(lengths):
            # A scan lets sequences drop out at no cost; a kernel runs rectangles.
            block_cost = self._block_cost(inputs.dtype) if method == "fused" else None
            return plan_blocks(lengths, num_steps=num_steps, block_cost=block_cost)
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

    def _parameter(self, name: str, suffix: str) -> Tensor:
        parameter: Tensor = getattr(self, f"{name}_{suffix}")
        return parameter

    def _layers(self) -> list[LayerWeights]:
        config = self.config
        kind = InputWeights if config.kind in MIN_KINDS else CellWeights
        norm_names = NormWeights._fields if config.kind == "lstm" else NormWeights._fields[:2]
        return [
            LayerWeights(
                kind(*(self._parameter(name, suffix) for name in kind._fields)),
                NormWeights(*(self._parameter(name, suffix) for name in norm_names)) if config.layer_norm else None,
            )
            for suffix in self._suffixes()
        ]

    def _check(self, inputs: Tensor, lengths: Tensor | None, state: RecurrentState | None) -> None:
        config = self.config
        weight = self._parameter("weight_ih", "l0")
        if inputs.ndim != 3 or inputs.shape[-1] != self.input_size or inputs.shape[1] == 0:
            raise ValueError(
                f"inputs must have shape (batch, time >= 1, {self.input_size}), got {tuple(inputs.shape)}. "
                f"The last axis is input_size={self.input_size}."
            )
        check_like(inputs, name="inputs", like=weight)
        if lengths is not None:
            check_lengths(lengths, of=inputs)
        if state is None:
            return
        if not isinstance(state, RecurrentState):
            raise TypeError(
                f"state must be a RecurrentState(hidden, cell), got {type(state).__name__}. (h, c) of torch.nn.LSTM is "
                "RecurrentState(h, c), and h of torch.nn.GRU or RNN is RecurrentState(h, None)."
            )
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
            check_like(part, name=f"state.{name}", like=inputs, like_name="the inputs are")

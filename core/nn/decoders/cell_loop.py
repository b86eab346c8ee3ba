"""A stack of recurrent layers one time step at a time, for decoders whose next input depends on their last output."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from core.nn.cells import CellKind, CellWeights, RecurrentState, Reset
from core.nn.decoders.loop_products import Products, apply_linear
from core.nn.decoders.lstm_update import lstm_update
from core.nn.recurrent import Recurrent, RecurrentConfig

_KINDS: tuple[CellKind, ...] = ("rnn_tanh", "rnn_sigmoid", "rnn_relu", "lstm", "gru")
_ACTIVATIONS = {"rnn_tanh": torch.tanh, "rnn_sigmoid": torch.sigmoid, "rnn_relu": torch.relu}
# Keys of RecurrentConfig that the loop here reads.
_OWN_KEYS = frozenset({"kind", "hidden_size", "num_layers", "bidirectional", "dropout", "residual"})
_OWN_KEYS |= {"learn_initial_state", "forget_bias", "reset"}
# Keys that mean the same a step at a time, which Recurrent itself does; what any other does, only a sequence tells.
_STEP_KEYS = frozenset({"layer_norm", "zoneout", "zoneout_cell"})


def sequence_settings(config: RecurrentConfig) -> list[str]:
    """Keys in use whose noise is drawn once a sequence, so that training must not go step by step."""
    return [name for name in _further(config) if name not in _STEP_KEYS]


def is_plain(config: RecurrentConfig) -> bool:
    """Whether the cell is one of the loop here, with nothing beside it (normalisation, zoneout ...)."""
    return config.kind in _KINDS and not _further(config)


def _further(config: RecurrentConfig) -> list[str]:
    return [
        field.name
        for field in fields(config)
        if field.name not in _OWN_KEYS and field.default is not MISSING and getattr(config, field.name) != field.default
    ]


@runtime_checkable
class LayerLoop(Protocol):
    """Recurrent layers called once a time step, with their state inside."""

    @property
    def hidden(self) -> Tensor:
        """Hidden state of the top layer, (rows, hidden)."""
        ...

    def __call__(self, inputs: Tensor | None, running: Tensor | None) -> Tensor:
        """Outputs of the top layer at the next step.

        Args:
            inputs: (rows, features), without those given for all steps at the start; None where these are all.
            running: (rows, 1), False where the state stays as it is; None where every row goes on.
        """
        ...

    def state(self) -> RecurrentState:
        """The state after the last step."""
        ...


def loop_over(
    recurrent: Recurrent, state: RecurrentState, products: Products, *, inputs: Tensor | None = None
) -> LayerLoop:
    """The layers of `recurrent` from `state` on.

    Args:
        recurrent: one direction.
        state: the state before the first step.
        products: how products with the weights are done.
        inputs: (time, rows, features), the first features of every step's input where they are known beforehand: their
            product is then one for all steps.
    """
    if is_plain(recurrent.config):
        return _CellLoop(recurrent, state, products, inputs=inputs)
    return _WholeLoop(recurrent, state, inputs=inputs)


class _WholeLoop:
    """Any cell: `Recurrent` itself over sequences of one step."""

    def __init__(self, recurrent: Recurrent, state: RecurrentState, *, inputs: Tensor | None) -> None:
        self._recurrent = recurrent
        self._state = state
        self._steps = None if inputs is None else iter(inputs.unbind(0))

    @property
    def hidden(self) -> Tensor:
        return self._state.hidden[-1]

    def __call__(self, inputs: Tensor | None, running: Tensor | None) -> Tensor:
        parts = [part for part in (None if self._steps is None else next(self._steps), inputs) if part is not None]
        step = torch.cat(parts, dim=-1).unsqueeze(1)
        outputs, state = self._recurrent(step, None, self._state)
        hidden = _keep(state.hidden, self._state.hidden, running)
        cell = None if state.cell is None or self._state.cell is None else _keep(state.cell, self._state.cell, running)
        self._state = RecurrentState(hidden, cell)
        top: Tensor = outputs.squeeze(1)
        return top

    def state(self) -> RecurrentState:
        return self._state


class _CellLoop:
    def __init__(
        self, recurrent: Recurrent, state: RecurrentState, products: Products, *, inputs: Tensor | None
    ) -> None:
        self._config = recurrent.config
        self._training = recurrent.training
        self._hidden = list(state.hidden.unbind(0))
        self._cell = [] if state.cell is None else list(state.cell.unbind(0))
        self._layers = [
            _Layer(
                CellWeights(*(getattr(recurrent, f"{name}_l{index}") for name in CellWeights._fields)),
                kind=recurrent.config.kind,
                reset=recurrent.reset,
                products=products,
                inputs=inputs if index == 0 else None,
            )
            for index in range(recurrent.config.num_layers)
        ]

    @property
    def hidden(self) -> Tensor:
        return self._hidden[-1]

    def __call__(self, inputs: Tensor | None, running: Tensor | None) -> Tensor:
        config = self._config
        below = inputs
        for index, layer in enumerate(self._layers):
            cell = self._cell[index] if self._cell else None
            outputs, new_cell = layer(below, self._hidden[index], cell)
            self._hidden[index] = _keep(outputs, self._hidden[index], running)
            if new_cell is not None and cell is not None:
                self._cell[index] = _keep(new_cell, cell, running)
            if index < config.num_layers - 1:
                outputs = F.dropout(outputs, config.dropout, self._training)
            if config.residual and index > 0:
                assert below is not None, "layers above the first have an input"
                outputs = outputs + below
            below = outputs
        assert below is not None, "there is at least one layer"
        return below

    def state(self) -> RecurrentState:
        return RecurrentState(torch.stack(self._hidden), torch.stack(self._cell) if self._cell else None)


def _keep(new: Tensor, old: Tensor, running: Tensor | None) -> Tensor:
    return new if running is None else torch.where(running, new, old.to(new.dtype))


class _Layer:
    """One layer's cell, `core.nn.cells` with as few products as its form allows."""

    def __init__(
        self, weights: CellWeights, *, kind: CellKind, reset: Reset, products: Products, inputs: Tensor | None
    ) -> None:
        self._kind = kind
        self._reset = reset
        self._size = weights.weight_hh.shape[1]
        weight_ih, bias = weights.weight_ih, weights.bias_ih
        # All but a GRU add the two products up, and so they are one.
        joined = kind != "gru"
        if joined:
            bias = bias + weights.bias_hh
        steps = None
        if inputs is not None:
            known = inputs.shape[-1]
            # One split, not two slices: the backward pass of each would fill the whole matrix.
            known_weight, weight_ih = torch.split(weight_ih, [known, weight_ih.shape[1] - known], dim=1)
            steps = apply_linear(inputs, known_weight, bias)
        self._has_inputs = weight_ih.shape[1] > 0
        input_weights = [weight_ih] if self._has_inputs else []
        if joined:
            self._gates = products([*input_weights, weights.weight_hh], bias=bias, steps=steps)
            return
        self._gates = products(input_weights, bias=bias, steps=steps)
        if reset == "after":
            self._past = products([weights.weight_hh], bias=weights.bias_hh)
        else:
            split = [2 * self._size, self._size]
            gates_weight, candidate_weight = torch.split(weights.weight_hh, split)
            gates_bias, candidate_bias = torch.split(weights.bias_hh, split)
            self._past = products([gates_weight], bias=gates_bias)
            self._past_candidate = products([candidate_weight], bias=candidate_bias)

    def __call__(self, inputs: Tensor | None, hidden: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Hidden and cell state after the step."""
        given: Sequence[Tensor] = [inputs] if self._has_inputs and inputs is not None else []
        if self._kind == "lstm":
            assert cell is not None, "an LSTM layer needs a cell state"
            return lstm_update(self._gates(*given, hidden), cell)
        if self._kind == "gru":
            return self._gru(self._gates(*given), hidden), None
        return _ACTIVATIONS[self._kind](self._gates(*given, hidden)), None

    def _gru(self, projected: Tensor, hidden: Tensor) -> Tensor:
        size = self._size
        gates, candidate = torch.split(projected, [2 * size, size], dim=-1)
        past = self._past(hidden)
        past_gates = past[..., : 2 * size]
        reset_gate, update_gate = torch.sigmoid(gates + past_gates).chunk(2, dim=-1)
        if self._reset == "after":
            candidate = torch.tanh(candidate + reset_gate * past[..., 2 * size :])
        else:
            candidate = torch.tanh(candidate + self._past_candidate(reset_gate * hidden))
        return candidate + update_gate * (hidden - candidate)

"""The recurrent layers of a decoder, of which those above the first may have a context beside their input."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.cells import RecurrentState
from core.nn.decoders.cell_loop import LayerLoop, loop_over
from core.nn.decoders.loop_products import Products
from core.nn.recurrent import Recurrent, RecurrentConfig


class DecoderLayers(nn.Module):
    """One `Recurrent`, or one a layer where a context stands between the first and those above (`context_size` > 0)."""

    def __init__(self, config: RecurrentConfig, *, input_size: int, context_size: int) -> None:
        super().__init__()
        self.config = config
        self.first = Recurrent(_one_layer(config) if context_size else config, input_size=input_size)
        self.upper = nn.ModuleList()
        if context_size:
            upper = [_one_layer(config)] * (config.num_layers - 1)
            self.upper.extend(Recurrent(layer, input_size=config.hidden_size + context_size) for layer in upper)

    def initial_state(self, batch_size: int) -> RecurrentState:
        """The state before the first step where no bridge gives one: zeros, or what was learned."""
        return _join([layers.initial_state(batch_size) for layers in self._modules_in_order()])

    def run_first(self, inputs: Tensor, lengths: Tensor | None, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Outputs and last state of all layers below the context, a whole sequence at once."""
        outputs: Tensor
        outputs, after = self.first(inputs, lengths, _part(state, 0, self.first.config.num_layers))
        return outputs, after

    def run_above(
        self,
        below: Tensor,
        after_first: RecurrentState,
        context: Tensor | None,
        lengths: Tensor | None,
        state: RecurrentState,
    ) -> tuple[Tensor, RecurrentState]:
        """Outputs of the top layer and the last state of all, a whole sequence at once."""
        states = [after_first]
        for index, layer in enumerate(self.upper, start=1):
            assert context is not None, "layers above the first have a context"
            if index == 1:
                below = self._drop(below)
            outputs, after = layer(torch.cat([below, context], dim=-1), lengths, _part(state, index, index + 1))
            states.append(after)
            below = self._join_layer(outputs, below, index)
        return below, _join(states)

    def loop(self, state: RecurrentState, products: Products, *, inputs: Tensor | None) -> "DecoderLayersLoop":
        """The layers one step at a time; see `core.nn.decoders.cell_loop.loop_over`."""
        loops = [loop_over(self.first, _part(state, 0, self.first.config.num_layers), products, inputs=inputs)]
        for index, layer in enumerate(self.upper, start=1):
            assert isinstance(layer, Recurrent), "built so"
            loops.append(loop_over(layer, _part(state, index, index + 1), products))
        return DecoderLayersLoop(self, loops)

    def _drop(self, outputs: Tensor) -> Tensor:
        if self.config.locked_dropout and self.training:
            return outputs * F.dropout(torch.ones_like(outputs[:, :1]), self.config.dropout)
        return F.dropout(outputs, self.config.dropout, self.training)

    def _join_layer(self, outputs: Tensor, below: Tensor, index: int) -> Tensor:
        """A layer's output as the next one reads it: dropout below the top, then the residual, as in `Recurrent`."""
        if index < self.config.num_layers - 1:
            outputs = self._drop(outputs)
        return outputs + below if self.config.residual else outputs

    def _modules_in_order(self) -> list[Recurrent]:
        return [self.first, *(layer for layer in self.upper if isinstance(layer, Recurrent))]


class DecoderLayersLoop:
    """`DecoderLayers` at work: `first`, then `above`, once a step."""

    def __init__(self, layers: DecoderLayers, loops: list[LayerLoop]) -> None:
        self._layers = layers
        self._loops = loops
        self._below: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """Hidden state of the top layer, (rows, hidden)."""
        return self._loops[-1].hidden

    def first(self, inputs: Tensor | None, running: Tensor | None) -> Tensor:
        """Outputs of the layers below the context, (rows, hidden); see `LayerLoop`."""
        self._below = self._loops[0](inputs, running)
        return self._below

    def above(self, context: Tensor | None, running: Tensor | None) -> Tensor:
        """Outputs of the top layer, (rows, hidden), after `first`."""
        below = self._below
        assert below is not None, "the first layers go first"
        for index, loop in enumerate(self._loops[1:], start=1):
            assert context is not None, "layers above the first have a context"
            if index == 1:
                below = self._layers._drop(below)
            below = self._layers._join_layer(loop(torch.cat([below, context], dim=-1), running), below, index)
        return below

    def state(self) -> RecurrentState:
        """The state of all layers after the last step."""
        return _join([loop.state() for loop in self._loops])


def _one_layer(config: RecurrentConfig) -> RecurrentConfig:
    return replace(config, num_layers=1, dropout=0.0, locked_dropout=False, residual=False)


def _part(state: RecurrentState, start: int, stop: int) -> RecurrentState:
    if stop - start == state.hidden.shape[0]:
        return state
    return RecurrentState(state.hidden[start:stop], None if state.cell is None else state.cell[start:stop])


def _join(states: list[RecurrentState]) -> RecurrentState:
    if len(states) == 1:
        return states[0]
    cells = [state.cell for state in states if state.cell is not None]
    return RecurrentState(torch.cat([state.hidden for state in states]), torch.cat(cells) if cells else None)

"""The recurrent layer's half of the hand-written loops of `attentive_scan.py`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.nn.recurrence.scan import states_before, total_gradient
from core.nn.recurrence.scan_cells import Carried, ScanCell, StepGradients


class LayerScan:
    """A recurrent layer in a loop that others share: its buffers, step by step, forward and back.

    Args:
        cell_type: which cell (`core.nn.recurrence.scan.scan_cell`).
        parameters: what the recurrence needs of the layer's weights.
        num_rows: rows of each step, never growing.
        hidden: the hidden state before the first step, (rows, hidden).
        cell: an LSTM's cell state likewise.
        gated_size: width of the gates.
    """

    def __init__(
        self,
        cell_type: type[ScanCell],
        parameters: Sequence[Tensor],
        *,
        num_rows: list[int],
        hidden: Tensor,
        cell: Tensor | None,
        gated_size: int,
    ) -> None:
        self._arithmetic = cell_type(parameters, dtype=hidden.dtype)
        self._num_rows = num_rows
        self._hidden, self._cell = hidden, cell
        self._gated_size = gated_size
        self._saved: list[Tensor] = []
        self._steps: list[tuple[Any, ...]] = []
        self._back: list[tuple[Tensor, Tensor | None, tuple[Any, ...]]] = []
        self.states: list[Tensor] = []
        """Hidden states before each step, in the backward pass."""
        self.carried: Tensor | None = None
        """Gradient in the hidden state before the step whose backward pass was last."""
        self._carried_cell: Tensor | None = None

    def prepare_forward(self) -> tuple[Tensor, Tensor | None]:
        """Room for the states of all steps, which are returned."""
        self._arithmetic.prepare_forward()
        num_flat, size = sum(self._num_rows), self._hidden.shape[1]
        outputs = self._hidden.new_empty(num_flat, size)
        cells = None if self._cell is None else outputs.new_empty(num_flat, size)
        self._saved = [outputs.new_empty(num_flat, width) for width in self._arithmetic.saved_widths(size)]
        self._steps = by_step([outputs, cells, *self._saved], self._num_rows)
        self._before = Carried(self._hidden, self._cell)
        return outputs, cells

    def before(self, step: int) -> Tensor:
        """The hidden state before a step, of the rows that it has."""
        rows = self._num_rows[step]
        hidden, cell = self._before
        self._before = Carried(hidden[:rows], None if cell is None else cell[:rows])
        return self._before.hidden

    def forward(self, projected: Tensor, *, step: int) -> Tensor:
        """The hidden state after a step, after `before`; `projected` is all but the recurrent product."""
        out: Tensor
        out, out_cell, *saved = self._steps[step]
        self._arithmetic.forward(projected, self._before, Carried(out, out_cell), saved)
        self._before = Carried(out, out_cell)
        return out

    def release(self) -> None:
        """Let go of what is also an output, or a gradient of one pass: an output kept here would never be freed."""
        self._steps, self._before = [], Carried(self._hidden, self._cell)
        self._back, self.states = [], []
        self.carried = self._carried_cell = None

    def prepare_backward(self, outputs: Tensor, cells: Tensor | None, grad_cells: Tensor | None) -> None:
        """Make room for gradients; backward may run more than once, and begins here."""
        self._arithmetic.prepare_backward()
        num_rows = self._num_rows
        self.grad_projected = outputs.new_empty(len(outputs), self._gated_size)
        self._grad_recurrent = self.grad_projected
        if self._arithmetic.recurrent_size is not None:
            self._grad_recurrent = outputs.new_empty(len(outputs), self._arithmetic.recurrent_size * outputs.shape[1])
        self.states = states_before(self._hidden, outputs, num_rows)
        cells_before: Sequence[Tensor | None] = [None] * len(num_rows)
        if self._cell is not None and cells is not None:
            cells_before = states_before(self._cell, cells, num_rows)
        buffers = [outputs, cells, grad_cells, self.grad_projected, self._grad_recurrent, *self._saved]
        self._back = list(zip(self.states, cells_before, by_step(buffers, num_rows), strict=True))
        self.carried = self._carried_cell = None

    def backward(self, grad: Tensor, *, step: int) -> Tensor:
        """Gradient in what a step was given, from the last to the first.

        `grad` is that in its hidden state, which is written over. The gradient in the state before stands in `carried`.
        """
        old, old_cell, (new, new_cell, grad_cell, into, into_recurrent, *saved) = self._back[step]
        if self._cell is not None:
            self._carried_cell = total_gradient(self._carried_cell, grad_cell, rows=len(new), like=old)
        self.carried, self._carried_cell = self._arithmetic.backward(
            Carried(grad, self._carried_cell),
            Carried(old, old_cell),
            Carried(new, new_cell),
            saved,
            StepGradients(into, into_recurrent),
        )
        given: Tensor = into
        return given

    def gradients(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, ...]]:
        """Gradients of the states before the first step, and of the layer's parameters."""
        rows, like = len(self._hidden), self._hidden
        hidden = total_gradient(self.carried, None, rows=rows, like=like)
        cell = None if self._cell is None else total_gradient(self._carried_cell, None, rows=rows, like=like)
        parameters = self._arithmetic.weight_gradients(
            torch.cat(self.states), self._saved, self.grad_projected, self._grad_recurrent
        )
        return (hidden, cell), parameters


def by_step(tensors: Sequence[Tensor | None], num_rows: list[int]) -> list[tuple[Any, ...]]:
    """The parts of every tensor that belong to each step; None for one that is not there."""
    parts: list[Sequence[Any]] = [
        [None] * len(num_rows) if tensor is None else torch.split(tensor, num_rows) for tensor in tensors
    ]
    return list(zip(*parts, strict=True))

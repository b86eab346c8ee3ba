"""The arithmetic of one time step of each cell, forward and backward, for the hand-written recurrence of `scan.py`.

The forward half computes what `core.nn.cells` says, into buffers; the backward half is its derivative. A step reads and
writes slices of tensors that hold all steps, so nothing is allocated in the loop but the recurrent product.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.nn.cells import Activation
from core.nn.recurrence.products import PackedWeight, weight_gradient

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Carried(NamedTuple):
    """What one step hands to the next, or its gradient: hidden state and, for an LSTM, cell state."""

    hidden: Tensor
    cell: Tensor | None


class StepGradients(NamedTuple):
    """Where a step writes its gradients."""

    projected: Tensor
    """In U x(t) + b, (rows, gated)."""
    recurrent: Tensor
    """In the product with the recurrent weight; the same memory as `projected` where the two are equal."""


class ScanCell(ABC):
    """One kind of cell. Unless it says otherwise, its parameters are the recurrent weight and bias.

    Attributes:
        recurrent_size: width of the recurrent product's gradient in units of the hidden size; None where it is the
            input product's.
    """

    recurrent_size: int | None = None

    def __init__(self, parameters: Sequence[Tensor], *, dtype: torch.dtype) -> None:
        self.parameters = parameters
        self.dtype = dtype

    @abstractmethod
    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        """Columns of the tensors that a step leaves for its backward."""

    def prepare_forward(self) -> None:
        """Lay the weights out for the loop over time."""
        self._weight = PackedWeight(self.parameters[0], self.parameters[1], dtype=self.dtype)

    def prepare_backward(self) -> None:
        """Lay the transposed weights out for the loop back over time."""
        self._transposed = PackedWeight(self.parameters[0].t(), dtype=self.dtype)

    @abstractmethod
    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        """One step: from `projected` (rows, gated) and the state before to the state after, written in place."""

    @abstractmethod
    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        """The gradient in the state before, given the one in the state after; `grad.hidden` may be written over."""

    def weight_gradients(
        self, before: Tensor, saved: Sequence[Tensor], projected: Tensor, recurrent: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients of `parameters`, of all steps at once: `before` are the hidden states before each step."""
        return weight_gradient(recurrent, before, dtype=self.dtype), recurrent.sum(0)


class RNNScan(ScanCell):
    """h = g(projected + W h + b)."""

    activation: Activation = "tanh"

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        return ()

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        torch.add(projected, self._weight(before.hidden), out=after.hidden)
        if self.activation == "tanh":
            after.hidden.tanh_()
        elif self.activation == "sigmoid":
            after.hidden.sigmoid_()
        else:
            after.hidden.relu_()

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        if self.activation == "tanh":
            _tanh_backward(grad.hidden, after.hidden, grad_input=into.projected)
        elif self.activation == "sigmoid":
            _sigmoid_backward(grad.hidden, after.hidden, grad_input=into.projected)
        else:
            _relu_backward(grad.hidden, after.hidden, 0, grad_input=into.projected)
        return Carried(self._transposed(into.projected), None)


class SigmoidScan(RNNScan):
    """The simple network with g = sigmoid."""

    activation = "sigmoid"


class ReLUScan(RNNScan):
    """The simple network with g = ReLU."""

    activation = "relu"


class LSTMScan(ScanCell):
    """Gates i, f, g, o; c = f c + i g; h = o tanh(c)."""

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        return 4 * hidden_size, hidden_size  # gates, tanh(c)

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        gates, squashed = saved
        torch.add(projected, self._weight(before.hidden), out=gates)
        self._update(gates, before, after)
        assert after.cell is not None
        torch.tanh(after.cell, out=squashed)
        torch.mul(gates.chunk(4, dim=1)[3], squashed, out=after.hidden)

    @staticmethod
    def _update(gates: Tensor, before: Carried, after: Carried) -> None:
        """Activate the gates in place and write the new cell state."""
        assert before.cell is not None
        assert after.cell is not None
        size = before.hidden.shape[1]
        gates[:, : 2 * size].sigmoid_()
        gates[:, 2 * size : 3 * size].tanh_()
        gates[:, 3 * size :].sigmoid_()
        input_gate, forget_gate, candidate, _ = gates.chunk(4, dim=1)
        torch.mul(forget_gate, before.cell, out=after.cell)
        after.cell.addcmul_(input_gate, candidate)

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        gates, squashed = saved
        grad_cell = self._output_backward(grad.hidden, gates, squashed, into.projected)
        before_cell = self._update_backward(grad_cell, grad.cell, gates, before, into.projected)
        return Carried(self._transposed(into.projected), before_cell)

    @staticmethod
    def _output_backward(grad: Tensor, gates: Tensor, squashed: Tensor, into: Tensor) -> Tensor:
        """Gradient in o before its activation; returns the one in the cell state before tanh."""
        output_gate = gates.chunk(4, dim=1)[3]
        grad_squashed = grad * output_gate
        _sigmoid_backward(grad.mul_(squashed), output_gate, grad_input=into.chunk(4, dim=1)[3])
        squashed_in: Tensor = _tanh_backward(grad_squashed, squashed, grad_input=grad_squashed)
        return squashed_in

    @staticmethod
    def _update_backward(
        grad_cell: Tensor, carried: Tensor | None, gates: Tensor, before: Carried, into: Tensor
    ) -> Tensor:
        """Gradients in i, f and g before their activation; returns the one in the cell state before."""
        assert before.cell is not None
        if carried is not None:
            grad_cell.add_(carried)
        input_gate, forget_gate, candidate, _ = gates.chunk(4, dim=1)
        grad_input, grad_forget, grad_candidate, _ = into.chunk(4, dim=1)
        _sigmoid_backward(grad_cell * candidate, input_gate, grad_input=grad_input)
        _sigmoid_backward(grad_cell * before.cell, forget_gate, grad_input=grad_forget)
        _tanh_backward(grad_cell * input_gate, candidate, grad_input=grad_candidate)
        return grad_cell.mul_(forget_gate)


class GRUScan(ScanCell):
    """Gates r, z; n = tanh(projected + r (W h + b)); h = n + z (h - n)."""

    recurrent_size = 3

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        return 2 * hidden_size, hidden_size, hidden_size  # gates, candidate, its recurrent product

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        recurrent = self._weight(before.hidden)
        num_gates = saved[0].shape[1]
        self._update(projected, recurrent[:, :num_gates], recurrent[:, num_gates:], before, after, saved)

    @staticmethod
    def _update(
        projected: Tensor,
        past_gates: Tensor,
        past_candidate: Tensor,
        before: Carried,
        after: Carried,
        saved: Sequence[Tensor],
    ) -> None:
        gates, candidate, past = saved[:3]
        size = candidate.shape[1]
        torch.add(projected[:, : 2 * size], past_gates, out=gates).sigmoid_()
        past.copy_(past_candidate)
        reset_gate, update_gate = gates.chunk(2, dim=1)
        torch.addcmul(projected[:, 2 * size :], reset_gate, past, out=candidate).tanh_()
        torch.lerp(candidate, before.hidden, update_gate, out=after.hidden)

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        passed = self._update_backward(grad.hidden, before, saved, into)
        return Carried(passed.add_(self._transposed(into.recurrent)), None)

    @staticmethod
    def _update_backward(grad: Tensor, before: Carried, saved: Sequence[Tensor], into: StepGradients) -> Tensor:
        """Gradients before the activations; returns what passes to the hidden state before through the update gate."""
        gates, candidate, past = saved[:3]
        size = candidate.shape[1]
        reset_gate, update_gate = gates.chunk(2, dim=1)
        grad_reset, grad_update, grad_candidate = into.projected.chunk(3, dim=1)
        passed = grad * update_gate
        _sigmoid_backward((before.hidden - candidate).mul_(grad), update_gate, grad_input=grad_update)
        _tanh_backward(grad.sub_(passed), candidate, grad_input=grad_candidate)
        _sigmoid_backward(grad_candidate * past, reset_gate, grad_input=grad_reset)
        into.recurrent[:, : 2 * size].copy_(into.projected[:, : 2 * size])
        torch.mul(grad_candidate, reset_gate, out=into.recurrent[:, 2 * size :])
        return passed


class ResetBeforeGRUScan(ScanCell):
    """Gates r, z; n = tanh(projected + W (r h) + b); h = n + z (h - n)."""

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        return 2 * hidden_size, hidden_size, hidden_size  # gates, candidate, r h

    def prepare_forward(self) -> None:
        gates, candidate = self._parts()
        self._gates = PackedWeight(*gates, dtype=self.dtype)
        self._candidate = PackedWeight(*candidate, dtype=self.dtype)

    def prepare_backward(self) -> None:
        gates, candidate = self._parts()
        self._gates_transposed = PackedWeight(gates[0].t(), dtype=self.dtype)
        self._candidate_transposed = PackedWeight(candidate[0].t(), dtype=self.dtype)

    def _parts(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        weight, bias = self.parameters
        num_gates = 2 * weight.shape[1]
        return (weight[:num_gates], bias[:num_gates]), (weight[num_gates:], bias[num_gates:])

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        gates, candidate, kept = saved
        num_gates = gates.shape[1]
        torch.add(projected[:, :num_gates], self._gates(before.hidden), out=gates).sigmoid_()
        reset_gate, update_gate = gates.chunk(2, dim=1)
        torch.mul(reset_gate, before.hidden, out=kept)
        torch.add(projected[:, num_gates:], self._candidate(kept), out=candidate).tanh_()
        torch.lerp(candidate, before.hidden, update_gate, out=after.hidden)

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        gates, candidate, _ = saved
        reset_gate, update_gate = gates.chunk(2, dim=1)
        grad_reset, grad_update, grad_candidate = into.projected.chunk(3, dim=1)
        passed = grad.hidden * update_gate
        _sigmoid_backward((before.hidden - candidate).mul_(grad.hidden), update_gate, grad_input=grad_update)
        _tanh_backward(grad.hidden.sub_(passed), candidate, grad_input=grad_candidate)
        grad_kept = self._candidate_transposed(grad_candidate)
        _sigmoid_backward(grad_kept * before.hidden, reset_gate, grad_input=grad_reset)
        passed.addcmul_(grad_kept, reset_gate)
        return Carried(passed.add_(self._gates_transposed(into.projected[:, : gates.shape[1]])), None)

    def weight_gradients(
        self, before: Tensor, saved: Sequence[Tensor], projected: Tensor, recurrent: Tensor
    ) -> tuple[Tensor, ...]:
        num_gates = saved[0].shape[1]
        gates = weight_gradient(projected[:, :num_gates], before, dtype=self.dtype)
        candidate = weight_gradient(projected[:, num_gates:], saved[2], dtype=self.dtype)
        return torch.cat([gates, candidate]), projected.sum(0)

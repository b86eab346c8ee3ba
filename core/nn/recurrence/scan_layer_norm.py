"""The step arithmetic of `core.nn.recurrence.scan` for layer-normalised cells (Ba, Kiros & Hinton, arXiv:1607.06450)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.nn.cells import LAYER_NORM_EPSILON
from core.nn.recurrence.products import PackedWeight, weight_gradient
from core.nn.recurrence.scan_cells import Carried, GRUScan, LSTMScan, StepGradients


class _Norm:
    """One layer normalisation over the columns of a step, with the gradients of its gain and bias summed over steps."""

    def __init__(self, gain: Tensor, bias: Tensor) -> None:
        self.gain = gain
        self.bias = bias
        self.grad_gain = torch.zeros_like(gain)
        self.grad_bias = torch.zeros_like(bias)

    def __call__(self, inputs: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        """Normalised; `mean` and `scale` (1 / standard deviation) of each row are written."""
        outputs, row_mean, row_scale = torch.native_layer_norm(
            inputs, [inputs.shape[1]], self.gain, self.bias, LAYER_NORM_EPSILON
        )
        mean.copy_(row_mean)
        scale.copy_(row_scale)
        return outputs

    def backward(self, grad: Tensor, inputs: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        grad_inputs, grad_gain, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad, inputs, [inputs.shape[1]], mean, scale, self.gain, self.bias, [True, True, True]
        )
        self.grad_gain += grad_gain
        self.grad_bias += grad_bias
        result: Tensor = grad_inputs
        return result


class LayerNormLSTMScan(LSTMScan):
    """Recurrent product and new cell state normalised. Parameters: W, bias, gain, gain and bias of the cell state."""

    recurrent_size = 4

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        # gates, tanh of the normalised cell state, recurrent product, mean and scale of the product and of the cell
        return 4 * hidden_size, hidden_size, 4 * hidden_size, 1, 1, 1, 1

    def _prepare_norms(self) -> None:
        _, bias, gain, cell_gain, cell_bias = self.parameters
        self._norm = _Norm(gain, bias)
        self._cell_norm = _Norm(cell_gain, cell_bias)

    def prepare_forward(self) -> None:
        self._weight = PackedWeight(self.parameters[0], dtype=self.dtype)
        self._prepare_norms()

    def prepare_backward(self) -> None:
        self._transposed = PackedWeight(self.parameters[0].t(), dtype=self.dtype)
        self._prepare_norms()

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        gates, squashed, recurrent, mean, scale, cell_mean, cell_scale = saved
        assert after.cell is not None
        recurrent.copy_(self._weight(before.hidden))
        torch.add(projected, self._norm(recurrent, mean, scale), out=gates)
        self._update(gates, before, after)
        torch.tanh(self._cell_norm(after.cell, cell_mean, cell_scale), out=squashed)
        torch.mul(gates.chunk(4, dim=1)[3], squashed, out=after.hidden)

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        gates, squashed, recurrent, mean, scale, cell_mean, cell_scale = saved
        assert after.cell is not None
        grad_normed = self._output_backward(grad.hidden, gates, squashed, into.projected)
        grad_cell = self._cell_norm.backward(grad_normed, after.cell, cell_mean, cell_scale)
        before_cell = self._update_backward(grad_cell, grad.cell, gates, before, into.projected)
        into.recurrent.copy_(self._norm.backward(into.projected, recurrent, mean, scale))
        return Carried(self._transposed(into.recurrent), before_cell)

    def weight_gradients(
        self, before: Tensor, saved: Sequence[Tensor], projected: Tensor, recurrent: Tensor
    ) -> tuple[Tensor, ...]:
        weight = weight_gradient(recurrent, before, dtype=self.dtype)
        norm, cell_norm = self._norm, self._cell_norm
        return weight, norm.grad_bias, norm.grad_gain, cell_norm.grad_gain, cell_norm.grad_bias


class LayerNormGRUScan(GRUScan):
    """Recurrent products of the gates (together) and of the candidate normalised. Parameters: W, bias, gain."""

    def saved_widths(self, hidden_size: int) -> tuple[int, ...]:
        # gates, candidate, its normalised product; both raw products; mean and scale of each
        return 2 * hidden_size, hidden_size, hidden_size, 2 * hidden_size, hidden_size, 1, 1, 1, 1

    def _prepare_norms(self) -> None:
        weight, bias, gain = self.parameters
        num_gates = 2 * weight.shape[1]
        self._gates_norm = _Norm(gain[:num_gates], bias[:num_gates])
        self._candidate_norm = _Norm(gain[num_gates:], bias[num_gates:])

    def prepare_forward(self) -> None:
        self._weight = PackedWeight(self.parameters[0], dtype=self.dtype)
        self._prepare_norms()

    def prepare_backward(self) -> None:
        self._transposed = PackedWeight(self.parameters[0].t(), dtype=self.dtype)
        self._prepare_norms()

    def forward(self, projected: Tensor, before: Carried, after: Carried, saved: Sequence[Tensor]) -> None:
        raw_gates, raw_candidate, mean, scale, candidate_mean, candidate_scale = saved[3:]
        recurrent = self._weight(before.hidden)
        raw_gates.copy_(recurrent[:, : raw_gates.shape[1]])
        raw_candidate.copy_(recurrent[:, raw_gates.shape[1] :])
        past_gates = self._gates_norm(raw_gates, mean, scale)
        past_candidate = self._candidate_norm(raw_candidate, candidate_mean, candidate_scale)
        self._update(projected, past_gates, past_candidate, before, after, saved)

    def backward(
        self, grad: Carried, before: Carried, after: Carried, saved: Sequence[Tensor], into: StepGradients
    ) -> Carried:
        raw_gates, raw_candidate, mean, scale, candidate_mean, candidate_scale = saved[3:]
        passed = self._update_backward(grad.hidden, before, saved, into)
        gates, candidate = torch.split(into.recurrent, [raw_gates.shape[1], raw_candidate.shape[1]], dim=1)
        gates.copy_(self._gates_norm.backward(gates, raw_gates, mean, scale))
        candidate.copy_(self._candidate_norm.backward(candidate, raw_candidate, candidate_mean, candidate_scale))
        return Carried(passed.add_(self._transposed(into.recurrent)), None)

    def weight_gradients(
        self, before: Tensor, saved: Sequence[Tensor], projected: Tensor, recurrent: Tensor
    ) -> tuple[Tensor, ...]:
        gates, candidate = self._gates_norm, self._candidate_norm
        return (
            weight_gradient(recurrent, before, dtype=self.dtype),
            torch.cat([gates.grad_bias, candidate.grad_bias]),
            torch.cat([gates.grad_gain, candidate.grad_gain]),
        )

"""What an LSTM does with the sums in its gates, in few operations: they are small in a loop, and each has its price."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.ragged import is_traced


def lstm_update(
    gates: Float[Tensor, "rows gated"], cell: Float[Tensor, "rows hidden"]
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "rows hidden"]]:
    """Hidden and cell state of `core.nn.cells.lstm_step` from U x + W h + b of all gates; first derivatives only."""
    if is_traced() or not torch.is_grad_enabled() or gates.dtype != cell.dtype:
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell
    hidden, new_cell = _LSTMUpdate.apply(gates, cell)
    return hidden, new_cell


class _LSTMUpdate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        size = cell.shape[-1]
        activated = torch.sigmoid(gates)
        input_gate, forget_gate, candidate, output_gate = activated.chunk(4, dim=-1)
        torch.tanh(gates[..., 2 * size : 3 * size], out=candidate)
        new_cell = torch.addcmul(forget_gate * cell, input_gate, candidate)
        squashed = torch.tanh(new_cell)
        ctx.save_for_backward(activated, cell, squashed)
        return output_gate * squashed, new_cell

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad_hidden: Tensor, grad_cell: Tensor) -> tuple[Tensor, Tensor]:
        activated, cell, squashed = ctx.saved_tensors
        input_gate, forget_gate, candidate, output_gate = activated.chunk(4, dim=-1)
        # The slope of every sigmoid at once; tanh's takes the candidate's place.
        grad_gates = torch.addcmul(activated, activated, activated, value=-1.0)
        by_input, by_forget, by_candidate, by_output = grad_gates.chunk(4, dim=-1)
        torch.mul(candidate, candidate, out=by_candidate).neg_().add_(1.0)
        grad_output = grad_hidden * output_gate
        grad_cell = grad_cell + grad_output.addcmul_(grad_output * squashed, squashed, value=-1.0)
        by_output.mul_(grad_hidden).mul_(squashed)
        by_input.mul_(grad_cell).mul_(candidate)
        by_forget.mul_(grad_cell).mul_(cell)
        by_candidate.mul_(grad_cell).mul_(input_gate)
        return grad_gates, grad_cell.mul_(forget_gate)

"""One time step of each recurrent cell, written as in the papers (notes N3, N12, N13), and the state it carries.

These pure functions are the reference that every faster path is tested against. Weights have PyTorch's layout, gates
stacked along the first axis: LSTM input, forget, candidate, output; GRU reset, update, candidate.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CellKind = Literal["rnn_tanh", "rnn_sigmoid", "rnn_relu", "lstm", "gru"]
Activation = Literal["tanh", "sigmoid", "relu"]
Reset = Literal["after", "before"]

CELL_KINDS: tuple[CellKind, ...] = ("rnn_tanh", "rnn_sigmoid", "rnn_relu", "lstm", "gru")
NUM_GATES: dict[CellKind, int] = {"rnn_tanh": 1, "rnn_sigmoid": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}

_ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


class CellWeights(NamedTuple):
    """Weights of one layer in one direction, as `torch.nn` names and lays them out (`gated` = gates x hidden)."""

    weight_ih: Float[Tensor, "gated features"]
    weight_hh: Float[Tensor, "gated hidden"]
    bias_ih: Float[Tensor, "gated"]
    bias_hh: Float[Tensor, "gated"]


class RecurrentState(NamedTuple):
    """What a recurrent network carries from one chunk of time to the next; the same type for every cell.

    Layers are the slow axis of the first dimension, directions the fast one (forward, then backward), as in `torch.nn`.
    """

    hidden: Float[Tensor, "layers_directions batch hidden"]
    cell: Float[Tensor, "layers_directions batch hidden"] | None = None
    """The LSTM's cell state; None for every other cell."""

    def detach(self) -> "RecurrentState":
        """The same values without their history: where truncated back-propagation through time stops (notes N6)."""
        return RecurrentState(self.hidden.detach(), None if self.cell is None else self.cell.detach())

    def select(self, indices: Int[Tensor, "selected"]) -> "RecurrentState":
        """The states of the examples at `indices` of the batch, in that order (beam search reorders and repeats)."""
        cell = None if self.cell is None else self.cell.index_select(1, indices)
        return RecurrentState(self.hidden.index_select(1, indices), cell)

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> "RecurrentState":
        """The same state on another device or in another precision."""
        # `device` stays positional: Lightning moves a batch's parts with `.to(device)`.
        cell = None if self.cell is None else self.cell.to(device=device, dtype=dtype)
        return RecurrentState(self.hidden.to(device=device, dtype=dtype), cell)


def rnn_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    activation: Activation = "tanh",
) -> Float[Tensor, "batch hidden"]:
    """h(t) = g_h(W h(t-1) + U x(t) + b), the simple recurrent network (notes N3).

    Source: Elman, "Finding Structure in Time", Cognitive Science 14, 1990.
    """
    projected = F.linear(inputs, weights.weight_ih, weights.bias_ih)
    return rnn_update(projected, hidden=hidden, weights=weights, activation=activation)


def rnn_update(
    projected: Float[Tensor, "batch hidden"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    activation: Activation = "tanh",
) -> Float[Tensor, "batch hidden"]:
    """`rnn_step` with U x(t) + b already made, which a loop over time does for all steps at once."""
    return _ACTIVATIONS[activation](projected + F.linear(hidden, weights.weight_hh, weights.bias_hh))


def lstm_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"],
    weights: CellWeights,
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    """Long short-term memory: c = f c + i g, h = o tanh(c) (notes N12). Returns hidden and cell.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; the forget gate f from Gers, Schmidhuber &
    Cummins, "Learning to Forget", 2000.
    """
    gates = F.linear(inputs, weights.weight_ih, weights.bias_ih) + F.linear(hidden, weights.weight_hh, weights.bias_hh)
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(cell), cell


def gru_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    reset: Reset = "after",
) -> Float[Tensor, "batch hidden"]:
    """Gated recurrent unit: h = z h(t-1) + (1 - z) n, a convex combination (notes N13).

    The candidate n resets the past `before` the product with it, n = tanh(U x + W (r h)), as in Cho et al., "Learning
    Phrase Representations using RNN Encoder-Decoder", EMNLP 2014, eq. 5-8, or `after`, n = tanh(U x + r (W h + b)), the
    form of cuDNN and PyTorch, whose recurrent products of a step are one.
    """
    projected = F.linear(inputs, weights.weight_ih, weights.bias_ih)
    return gru_update(projected, hidden=hidden, weights=weights, reset=reset)


def gru_update(
    projected: Float[Tensor, "*#batch gated"],
    *,
    hidden: Float[Tensor, "*#batch hidden"],
    weights: CellWeights,
    reset: Reset = "after",
) -> Float[Tensor, "... hidden"]:
    """`gru_step` with U x(t) + b already made, which a loop over time does for all steps at once.

    Batch axes broadcast: one state can be met with many inputs, or many states with one, without repeating a product.
    """
    hidden_size = hidden.shape[-1]
    if reset == "after":
        past_gates, past_candidate = torch.split(
            F.linear(hidden, weights.weight_hh, weights.bias_hh), [2 * hidden_size, hidden_size], dim=-1
        )
    else:
        past_gates = F.linear(hidden, weights.weight_hh[: 2 * hidden_size], weights.bias_hh[: 2 * hidden_size])
    gates, candidate = torch.split(projected, [2 * hidden_size, hidden_size], dim=-1)
    reset_gate, update_gate = torch.sigmoid(gates + past_gates).chunk(2, dim=-1)
    if reset == "before":
        past_candidate = F.linear(
            reset_gate * hidden, weights.weight_hh[2 * hidden_size :], weights.bias_hh[2 * hidden_size :]
        )
        candidate = torch.tanh(candidate + past_candidate)
    else:
        candidate = torch.tanh(candidate + reset_gate * past_candidate)
    return candidate + update_gate * (hidden - candidate)

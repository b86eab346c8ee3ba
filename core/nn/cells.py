"""One time step of each recurrent cell, written as in the papers (notes N3, N12, N13), and the state it carries.

These pure functions are the reference that every faster path is tested against. Weights have PyTorch's layout, gates
stacked along the first axis: LSTM input, forget, candidate, output; GRU reset, update, candidate; minGRU update,
candidate; minLSTM forget, input, candidate.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CellKind = Literal["rnn_tanh", "rnn_sigmoid", "rnn_relu", "lstm", "gru", "min_gru", "min_lstm"]
Activation = Literal["tanh", "sigmoid", "relu"]
Reset = Literal["after", "before"]

CELL_KINDS: tuple[CellKind, ...] = get_args(CellKind)
NUM_GATES: dict[CellKind, int] = {
    "rnn_tanh": 1,
    "rnn_sigmoid": 1,
    "rnn_relu": 1,
    "lstm": 4,
    "gru": 3,
    "min_gru": 2,
    "min_lstm": 3,
}
LAYER_NORM_EPSILON = 1e-5

_ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


class CellWeights(NamedTuple):
    """Weights of one layer in one direction, as `torch.nn` names and lays them out (`gated` = gates x hidden)."""

    weight_ih: Float[Tensor, "gated features"]
    weight_hh: Float[Tensor, "gated hidden"]
    bias_ih: Float[Tensor, "gated"]
    bias_hh: Float[Tensor, "gated"]


class NormWeights(NamedTuple):
    """What layer normalisation adds to a layer; each product's bias comes after its normalisation and gain."""

    gain_ih: Float[Tensor, "gated"]
    gain_hh: Float[Tensor, "gated"]
    gain_cell: Float[Tensor, "hidden"] | None = None
    """The LSTM's, for the cell state on its way to the output; None for a GRU."""
    bias_cell: Float[Tensor, "hidden"] | None = None


class InputWeights(NamedTuple):
    """Weights of one layer whose gates see the inputs alone (minGRU, minLSTM)."""

    weight_ih: Float[Tensor, "gated features"]
    bias_ih: Float[Tensor, "gated"]


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
    """`rnn_step` with `project` already done, which a loop over time does for all steps at once."""
    return _ACTIVATIONS[activation](projected + F.linear(hidden, weights.weight_hh, weights.bias_hh))


def lstm_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    norm: NormWeights | None = None,
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    """Long short-term memory: c = f c + i g, h = o tanh(c) (notes N12). Returns hidden and cell.

    With `norm` layer-normalised: both products, all four gates together, and the cell state on its way to the output.

    Sources: Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; the forget gate f from Gers, Schmidhuber &
    Cummins, "Learning to Forget", 2000; Ba, Kiros & Hinton, "Layer Normalization", arXiv:1607.06450, eq. 20-22.
    """
    projected = project(inputs, kind="lstm", weights=weights, norm=norm)
    return lstm_update(projected, hidden=hidden, cell=cell, weights=weights, norm=norm)


def lstm_update(
    projected: Float[Tensor, "batch gated"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    norm: NormWeights | None = None,
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    """`lstm_step` with `project` already done, which a loop over time does for all steps at once."""
    if norm is None:
        gates = projected + F.linear(hidden, weights.weight_hh, weights.bias_hh)
    else:
        recurrent = F.linear(hidden, weights.weight_hh)
        gates = projected + normalise(recurrent, kind="lstm", gain=norm.gain_hh, bias=weights.bias_hh)
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    shown = cell
    if norm is not None:
        shown = F.layer_norm(cell, cell.shape[-1:], norm.gain_cell, norm.bias_cell, LAYER_NORM_EPSILON)
    return torch.sigmoid(output_gate) * torch.tanh(shown), cell


def gru_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: CellWeights,
    reset: Reset = "after",
    norm: NormWeights | None = None,
) -> Float[Tensor, "batch hidden"]:
    """Gated recurrent unit: h = z h(t-1) + (1 - z) n, a convex combination (notes N13).

    The candidate n resets the past `before` the product with it, n = tanh(U x + W (r h)), as in Cho et al., "Learning
    Phrase Representations using RNN Encoder-Decoder", EMNLP 2014, eq. 5-8, or `after`, n = tanh(U x + r (W h + b)), the
    form of cuDNN and PyTorch, whose recurrent products of a step are one. With `norm` layer-normalised, which is defined
    for `after` (Ba, Kiros & Hinton, arXiv:1607.06450, supplement): the gates' products together, the candidate's apart.
    """
    projected = project(inputs, kind="gru", weights=weights, norm=norm)
    return gru_update(projected, hidden=hidden, weights=weights, reset=reset, norm=norm)


def gru_update(
    projected: Float[Tensor, "*#batch gated"],
    *,
    hidden: Float[Tensor, "*#batch hidden"],
    weights: CellWeights,
    reset: Reset = "after",
    norm: NormWeights | None = None,
) -> Float[Tensor, "... hidden"]:
    """`gru_step` with `project` already done, which a loop over time does for all steps at once.

    Batch axes broadcast: one state can be met with many inputs, or many states with one, without repeating a product.
    """
    hidden_size = hidden.shape[-1]
    if reset == "after":
        if norm is None:
            recurrent = F.linear(hidden, weights.weight_hh, weights.bias_hh)
        else:
            recurrent = F.linear(hidden, weights.weight_hh)
            recurrent = normalise(recurrent, kind="gru", gain=norm.gain_hh, bias=weights.bias_hh)
        past_gates, past_candidate = torch.split(recurrent, [2 * hidden_size, hidden_size], dim=-1)
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


def min_gru_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: InputWeights,
) -> Float[Tensor, "batch hidden"]:
    """Minimal GRU: h = (1 - z) h(t-1) + z n, where neither z nor n sees the state.

    So the recurrence is linear in h and can be run as a parallel scan.
    Source: Feng et al., "Were RNNs All We Needed?", arXiv:2410.01201, section 3.1 (the form without logarithms).
    """
    gate, candidate = min_gru_gates(project(inputs, kind="min_gru", weights=weights))
    return torch.lerp(hidden, candidate, gate)


def min_lstm_step(
    inputs: Float[Tensor, "batch features"],
    *,
    hidden: Float[Tensor, "batch hidden"],
    weights: InputWeights,
) -> Float[Tensor, "batch hidden"]:
    """Minimal LSTM: h = (f h(t-1) + i n) / (f + i), where no gate sees the state.

    Source: Feng et al., "Were RNNs All We Needed?", arXiv:2410.01201, section 3.2, with the gates normalised so that the
    state's scale does not depend on time.
    """
    gate, candidate = min_lstm_gates(project(inputs, kind="min_lstm", weights=weights))
    return torch.lerp(hidden, candidate, gate)


def min_gru_gates(
    projected: Float[Tensor, "*batch gated"],
) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
    """Gate z and candidate n of `min_gru_step`."""
    gate, candidate = projected.chunk(2, dim=-1)
    return torch.sigmoid(gate), candidate


def min_lstm_gates(
    projected: Float[Tensor, "*batch gated"],
) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
    """Gate i / (f + i) and candidate n of `min_lstm_step`."""
    forget_gate, input_gate, candidate = projected.chunk(3, dim=-1)
    # i / (f + i) = sigmoid(log i - log f): where both gates shut, the quotient would be 0 / 0.
    return torch.sigmoid(F.logsigmoid(input_gate) - F.logsigmoid(forget_gate)), candidate


def project(
    inputs: Float[Tensor, "*batch features"],
    *,
    kind: CellKind,
    weights: CellWeights | InputWeights,
    norm: NormWeights | None = None,
) -> Float[Tensor, "*batch gated"]:
    """U x(t) + b, normalised where the layer is: the part of a step that does not wait for the step before."""
    if norm is None:
        return F.linear(inputs, weights.weight_ih, weights.bias_ih)
    return normalise(F.linear(inputs, weights.weight_ih), kind=kind, gain=norm.gain_ih, bias=weights.bias_ih)


def normalise(
    product: Float[Tensor, "*batch gated"],
    *,
    kind: CellKind,
    gain: Float[Tensor, "gated"],
    bias: Float[Tensor, "gated"],
) -> Float[Tensor, "*batch gated"]:
    """Layer normalisation of a product: an LSTM's gates together, a GRU's two gates together and its candidate apart."""
    if kind == "lstm":
        return F.layer_norm(product, product.shape[-1:], gain, bias, LAYER_NORM_EPSILON)
    sizes = [2 * (product.shape[-1] // 3), product.shape[-1] // 3]
    parts = zip(torch.split(product, sizes, dim=-1), torch.split(gain, sizes), torch.split(bias, sizes), strict=True)
    return torch.cat([F.layer_norm(part, part.shape[-1:], g, b, LAYER_NORM_EPSILON) for part, g, b in parts], dim=-1)

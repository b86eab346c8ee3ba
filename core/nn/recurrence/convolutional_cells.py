"""One time step of each convolutional recurrent cell, written as in the papers, and the state it carries (notes N14).

The state is a map: every product of a recurrent cell becomes a convolution that keeps height and width. What lies
outside the map is zero, as in Shi et al. 2015, section 3.1. Gates are stacked along the first axis of the weights in
the order of `core.nn.cells`: LSTM input, forget, candidate, output; GRU reset, update, candidate. On a map of one
position a kernel of 1 makes these cells those of `core.nn.cells`.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.recurrence.products import has_avx512
from core.nn.recurrence.ragged import is_traced

ConvCellKind = Literal["conv_rnn", "conv_lstm", "conv_gru"]

NUM_CONV_GATES: dict[ConvCellKind, int] = {"conv_rnn": 1, "conv_lstm": 4, "conv_gru": 3}


class ConvCellWeights(NamedTuple):
    """Weights of one layer in one direction (`gated` = gates x hidden)."""

    weight_ih: Float[Tensor, "gated channels kernel kernel"]
    weight_hh: Float[Tensor, "gated hidden kernel kernel"]
    bias: Float[Tensor, "gated"]
    """One for both convolutions, which are added; with a norm, its shift."""
    gain: Float[Tensor, "gated"] | None = None
    """The norm's scale; None without a norm."""
    peephole: Float[Tensor, "3 hidden"] | None = None
    """What the input, forget and output gate of an LSTM see of the cell state; None for nothing."""


class ConvState(NamedTuple):
    """What a convolutional recurrent network carries from one chunk of time to the next.

    Layers are the slow axis of the first dimension, directions the fast one (forward, then backward).
    """

    hidden: Float[Tensor, "layers_directions batch hidden height width"]
    cell: Float[Tensor, "layers_directions batch hidden height width"] | None = None
    """The LSTM's cell state; None for every other cell."""

    def detach(self) -> "ConvState":
        """The same values without their history: where truncated back-propagation through time stops (notes N6)."""
        return ConvState(self.hidden.detach(), None if self.cell is None else self.cell.detach())

    def select(self, indices: Int[Tensor, "selected"]) -> "ConvState":
        """The states of the examples at `indices` of the batch, in that order."""
        cell = None if self.cell is None else self.cell.index_select(1, indices)
        return ConvState(self.hidden.index_select(1, indices), cell)

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> "ConvState":
        """The same state on another device or in another precision."""
        # `device` stays positional: Lightning moves a batch's parts with `.to(device)`.
        cell = None if self.cell is None else self.cell.to(device=device, dtype=dtype)
        return ConvState(self.hidden.to(device=device, dtype=dtype), cell)


def project_maps(
    inputs: Float[Tensor, "batch channels height width"], *, weights: ConvCellWeights
) -> Float[Tensor, "batch gated height width"]:
    """The part of all gates that comes from the inputs and waits for no state: U * x(t) + b."""
    return _convolve(inputs, weights.weight_ih, bias=weights.bias if weights.gain is None else None)


def conv_rnn_update(
    projected: Float[Tensor, "batch hidden height width"],
    *,
    hidden: Float[Tensor, "batch hidden height width"],
    weights: ConvCellWeights,
    norm_groups: int | None = None,
) -> Float[Tensor, "batch hidden height width"]:
    """h(t) = tanh(W * h(t-1) + U * x(t) + b), the simple recurrent network with * a convolution.

    `projected` is `project_maps` of the inputs, here as below.
    """
    return torch.tanh(_normalise(projected + _convolve(hidden, weights.weight_hh), weights, norm_groups))


def conv_lstm_update(
    projected: Float[Tensor, "batch gated height width"],
    *,
    hidden: Float[Tensor, "batch hidden height width"],
    cell: Float[Tensor, "batch hidden height width"],
    weights: ConvCellWeights,
    norm_groups: int | None = None,
) -> tuple[Float[Tensor, "batch hidden height width"], Float[Tensor, "batch hidden height width"]]:
    """Convolutional LSTM: c = f c + i g, h = o tanh(c). Returns hidden and cell.

    Peepholes let the input and forget gate see c(t-1) and the output gate c(t). The paper has one such weight a channel
    and position; here it is one a channel, the same at all positions, so that the size of the map may vary.
    Source: Shi et al., "Convolutional LSTM Network", NeurIPS 2015, eq. 3.
    """
    gates = _normalise(projected + _convolve(hidden, weights.weight_hh), weights, norm_groups)
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=1)
    peephole = None if weights.peephole is None else weights.peephole.reshape(3, -1, 1, 1)
    if peephole is not None:
        input_gate = input_gate + peephole[0] * cell
        forget_gate = forget_gate + peephole[1] * cell
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    if peephole is not None:
        output_gate = output_gate + peephole[2] * cell
    return torch.sigmoid(output_gate) * torch.tanh(cell), cell


def conv_gru_update(
    projected: Float[Tensor, "batch gated height width"],
    *,
    hidden: Float[Tensor, "batch hidden height width"],
    weights: ConvCellWeights,
    norm_groups: int | None = None,
) -> Float[Tensor, "batch hidden height width"]:
    """Convolutional GRU: h = z h(t-1) + (1 - z) n with n = tanh(U * x + W * (r h) + b).

    The reset gate acts before the convolution, as in the paper. The paper's update gate is 1 - z: the same cell with
    the sign of that gate's weights turned, here as in `core.nn.cells.gru_step`.
    Source: Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations", ICLR 2016,
    section 3.1.
    """
    size = hidden.shape[1]
    gates, candidate = torch.split(projected, [2 * size, size], dim=1)
    gates = _normalise(gates + _convolve(hidden, weights.weight_hh[: 2 * size]), weights, norm_groups, first=0)
    reset_gate, update_gate = torch.sigmoid(gates).chunk(2, dim=1)
    candidate = candidate + _convolve(reset_gate * hidden, weights.weight_hh[2 * size :])
    candidate = torch.tanh(_normalise(candidate, weights, norm_groups, first=2 * size))
    return candidate + update_gate * (hidden - candidate)


@torch.no_grad()
def initialise_conv_cell_(weights: ConvCellWeights, *, kind: ConvCellKind) -> None:
    """Fill one layer's weights in place, gate by gate, as `core.nn.recurrence.initialisation` does for the cells without maps.

    Orthogonal recurrent filters (each output channel's filter, flattened, orthogonal to the others), Xavier input
    filters, zero biases, an LSTM's forget gate open, a norm's gain 1. Peepholes start at 0: an LSTM without them.
    """
    num_gates = NUM_CONV_GATES[kind]
    for gate in weights.weight_ih.chunk(num_gates):
        nn.init.xavier_uniform_(gate)
    for gate in weights.weight_hh.chunk(num_gates):
        # Half precision has no QR decomposition.
        drawn = gate.new_empty(gate.shape, dtype=torch.promote_types(gate.dtype, torch.float32))
        gate.copy_(nn.init.orthogonal_(drawn))
    weights.bias.zero_()
    if kind == "conv_lstm":
        weights.bias.chunk(num_gates)[1].fill_(1.0)
    if weights.gain is not None:
        weights.gain.fill_(1.0)
    if weights.peephole is not None:
        weights.peephole.zero_()


def _convolve(maps: Tensor, weight: Tensor, *, bias: Tensor | None = None) -> Tensor:
    padding = weight.shape[-1] // 2
    if not _lacks_half_convolutions(maps):
        return F.conv2d(maps, weight, bias, padding=padding)
    half = torch.bfloat16
    with torch.autocast("cpu", enabled=False):
        factors = (maps.to(half).float(), weight.to(half).float(), None if bias is None else bias.to(half).float())
        return F.conv2d(*factors, padding=padding).to(half)


def _lacks_half_convolutions(maps: Tensor) -> bool:
    """Whether bfloat16 is asked of a CPU whose oneDNN has no convolutions in it, as those with AVX2 alone.

    PyTorch would then fall back to some that take six to fourteen times as long as in float32. Rounded factors in float32
    give the same: sums are kept in float32 either way.
    """
    if maps.device.type != "cpu" or has_avx512() or is_traced():
        return False
    asked = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype
    return asked == torch.bfloat16


def _normalise(gates: Tensor, weights: ConvCellWeights, norm_groups: int | None, *, first: int = 0) -> Tensor:
    """The stacked gates whose channels start at `first`, each gate in `norm_groups` groups of its own."""
    if weights.gain is None:
        return gates
    assert norm_groups is not None, "weights with a gain come with the number of groups"
    channels = slice(first, first + gates.shape[1])
    num_groups = norm_groups * gates.shape[1] // weights.weight_hh.shape[1]
    # Not F.group_norm: it refuses by batch size, and no example depends on the others here.
    return torch.group_norm(gates, num_groups, weights.gain[channels], weights.bias[channels])

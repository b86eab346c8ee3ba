"""One recurrent layer in one direction over a dense, time-major block: the fastest way each cell has."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from core.nn.cells import Activation, CellKind, CellWeights, Reset, gru_update, rnn_update

_STEPPED: dict[CellKind, Activation] = {"rnn_sigmoid": "sigmoid"}


def is_stepped(kind: CellKind, *, reset: Reset) -> bool:
    """Whether PyTorch has no kernel for this cell, so that a loop over time must run it."""
    return kind in _STEPPED or (kind == "gru" and reset == "before")


def run_layer(
    inputs: Float[Tensor, "time batch features"],
    *,
    kind: CellKind,
    reset: Reset,
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    weights: CellWeights,
) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"] | None]:
    """Outputs of every step, and hidden and cell state after the last."""
    if is_stepped(kind, reset=reset):
        return _run_steps(inputs, kind=kind, reset=reset, hidden=hidden, weights=weights)
    outputs, last_hidden, last_cell = run_stack(
        inputs,
        kind=kind,
        hidden=hidden.unsqueeze(0),
        cell=None if cell is None else cell.unsqueeze(0),
        weights=[weights],
        num_layers=1,
        bidirectional=False,
    )
    return outputs, last_hidden.squeeze(0), None if last_cell is None else last_cell.squeeze(0)


def run_stack(
    inputs: Float[Tensor, "first second features"],
    *,
    kind: CellKind,
    hidden: Float[Tensor, "layers_directions batch hidden"],
    cell: Float[Tensor, "layers_directions batch hidden"] | None,
    weights: Sequence[CellWeights],
    num_layers: int,
    bidirectional: bool,
    dropout: float = 0.0,
    training: bool = False,
    batch_first: bool = False,
) -> tuple[
    Float[Tensor, "first second outputs"],
    Float[Tensor, "layers_directions batch hidden"],
    Float[Tensor, "layers_directions batch hidden"] | None,
]:
    """All layers and directions in PyTorch's one call, for batches without padding.

    `weights` has one entry a layer and direction. `inputs` and outputs are time-major unless `batch_first`.
    """
    flat = _compact(weights) if inputs.is_cuda else [tensor for layer in weights for tensor in layer]
    if kind == "lstm":
        assert cell is not None, "an LSTM layer needs a cell state"
        return torch.lstm(inputs, [hidden, cell], flat, True, num_layers, dropout, training, bidirectional, batch_first)
    run = {"gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}[kind]
    outputs, hidden = run(inputs, hidden, flat, True, num_layers, dropout, training, bidirectional, batch_first)
    return outputs, hidden, None


def _compact(weights: Sequence[CellWeights]) -> list[Tensor]:
    """The weights as views of one buffer in cuDNN's order: all matrices, then all biases.

    cuDNN copies scattered weights at every call anyway, and warns each time; this copy stands in for that one.
    """
    ordered = [t for layer in weights for t in layer[:2]] + [t for layer in weights for t in layer[2:]]
    buffer = torch.cat([tensor.flatten() for tensor in ordered])
    views = [
        view.view_as(tensor)
        for view, tensor in zip(torch.split(buffer, [tensor.numel() for tensor in ordered]), ordered, strict=True)
    ]
    matrices, biases = views[: 2 * len(weights)], views[2 * len(weights) :]
    return [t for i in range(len(weights)) for t in (*matrices[2 * i : 2 * i + 2], *biases[2 * i : 2 * i + 2])]


def _run_steps(
    inputs: Float[Tensor, "time batch features"],
    *,
    kind: CellKind,
    reset: Reset,
    hidden: Float[Tensor, "batch hidden"],
    weights: CellWeights,
) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "batch hidden"], None]:
    # One product for all steps: only the recurrent one has to wait for the step before.
    projected = F.linear(inputs, weights.weight_ih, weights.bias_ih)
    outputs = []
    for step in projected.unbind(0):
        if kind == "gru":
            hidden = gru_update(step, hidden=hidden, weights=weights, reset=reset)
        else:
            hidden = rnn_update(step, hidden=hidden, weights=weights, activation=_STEPPED[kind])
        outputs.append(hidden)
    return torch.stack(outputs), hidden, None


def padding_weights(kind: CellKind, *, weight_ih: Float[Tensor, "gated features"]) -> Float[Tensor, "gated 1"] | None:
    """Weights of an extra input that is 1 in padding steps and 0 elsewhere; None for cells that need none.

    LSTM: a kernel returns the cell state of the last step only. The extra input shuts the input gate and opens the
    forget gate, so that the cell state stands still from the sequence's end on, exactly: sigmoid(+-1e4) is 1 and 0 in
    every precision, and the gradient passes unchanged.
    ReLU: the state can grow without bound in the padding, and a zero gradient times an infinity is no number. The extra
    input sets it to 0.
    The other cells are bounded, and their state at a sequence's end is that step's output.
    """
    column = weight_ih.new_zeros(weight_ih.shape[0], 1)
    if kind == "lstm":
        hidden_size = weight_ih.shape[0] // 4
        column[:hidden_size] = -1e4
        column[hidden_size : 2 * hidden_size] = 1e4
        return column
    if kind == "rnn_relu":
        return column.fill_(-torch.finfo(weight_ih.dtype).max / 4)
    return None

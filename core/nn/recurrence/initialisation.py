"""How recurrent weights start."""

import torch
from torch import nn

from core.nn.cells import NUM_GATES, CellKind, CellWeights, InputWeights, NormWeights

# Where the gate that keeps the past stands among the gates, and where its bias starts unless told otherwise.
_FORGET_GATE: dict[CellKind, int] = {"lstm": 1, "min_lstm": 0, "gru": 1}
_FORGET_BIAS: dict[CellKind, float] = {"lstm": 1.0, "min_lstm": 1.0, "gru": 0.0}


@torch.no_grad()
def initialise_cell_(
    weights: CellWeights | InputWeights,
    *,
    kind: CellKind,
    norm: NormWeights | None = None,
    forget_bias: float | None = None,
) -> None:
    """Fill one layer's weights in place: orthogonal recurrent, Xavier input, zero biases, an LSTM's forget gate open.

    Each gate is drawn as a matrix of its own: the stacked matrix has the wrong fan-out for Xavier and no orthogonal
    columns per gate. The forget bias is given in total (all of it in the input bias, the recurrent one is 0), for they are
    added; see `RecurrentConfig.forget_bias`. Gains start at 1.
    Sources: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR
    2014; Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010,
    eq. 16; Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures", ICML 2015, section 2.2.
    """
    num_gates = NUM_GATES[kind]
    for gate in weights.weight_ih.chunk(num_gates):
        nn.init.xavier_uniform_(gate)
    weights.bias_ih.zero_()
    if isinstance(weights, CellWeights):
        for gate in weights.weight_hh.chunk(num_gates):
            # Half precision has no QR decomposition.
            drawn = gate.new_empty(gate.shape, dtype=torch.promote_types(gate.dtype, torch.float32))
            gate.copy_(nn.init.orthogonal_(drawn))
        weights.bias_hh.zero_()
    if kind in _FORGET_GATE:
        value = _FORGET_BIAS[kind] if forget_bias is None else forget_bias
        weights.bias_ih.chunk(num_gates)[_FORGET_GATE[kind]].fill_(value)
    if norm is not None:
        for gain in (norm.gain_ih, norm.gain_hh, norm.gain_cell):
            if gain is not None:
                gain.fill_(1.0)
        if norm.bias_cell is not None:
            norm.bias_cell.zero_()

"""One recurrent layer in one direction over a planned batch: the fastest way each cell has on each device."""

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.cells import (
    Activation,
    CellKind,
    CellWeights,
    InputWeights,
    NormWeights,
    Reset,
    gru_update,
    lstm_update,
    min_gru_gates,
    min_lstm_gates,
    normalise,
    rnn_update,
)
from core.nn.recurrence.minimal_scan import minimal_scan
from core.nn.recurrence.parallel_scan import parallel_scan
from core.nn.recurrence.precision import is_autocast, product_dtype
from core.nn.recurrence.products import has_avx512, linear
from core.nn.recurrence.ragged import RaggedPlan, is_traced
from core.nn.recurrence.scan import Zoneout, scan, scan_cell
from core.nn.recurrent_config import MIN_KINDS, RecurrentConfig

Method = Literal["fused", "scan", "parallel", "steps"]


class LayerWeights(NamedTuple):
    """All weights of one layer in one direction."""

    cell: CellWeights | InputWeights
    norm: NormWeights | None = None


class LayerRun(NamedTuple):
    """What one layer in one direction gives: outputs in the flat layout, last states in the batch's order."""

    outputs: Float[Tensor, "flat hidden"]
    hidden: Float[Tensor, "batch hidden"]
    cell: Float[Tensor, "batch hidden"] | None


# Measured with AVX-512. From this width on, a ragged batch of an LSTM is faster without the padding that blocks leave than
# with the fused kernel over them; with AVX2 the kernel wins at every width.
_WIDE = 512
# Below these widths PyTorch's own loops, though not fused, are faster than ours, which call more operations a step.
_NARROW = 64
_NARROW_WITHOUT_GRADIENT = 256


def choose_method(config: RecurrentConfig, *, like: Tensor, ragged: bool, training: bool) -> Method:
    """How layers of this configuration run on tensors like this one, in a batch with padding or without.

    In training it does not depend on whether gradients are recorded: dropout is drawn in the layout of the method, and a
    forward pass that is computed again must draw the same.

    fused: PyTorch's kernel of the whole sequence. scan: a loop with a hand-written backward. parallel: a scan in
    logarithmically many passes. steps: a loop of plain operations, which a compiler or exporter can read.
    """
    on_cpu = like.device.type == "cpu"
    if config.kind in MIN_KINDS:
        return "scan" if on_cpu and not is_traced() else "parallel"
    if is_traced():
        return "fused" if has_kernel(config) else "steps"
    if not on_cpu:
        return "fused" if has_kernel(config) else "scan"
    if not has_kernel(config):
        return "scan"
    # On CPU PyTorch fuses the LSTM alone, through oneDNN, and not in float64.
    if config.kind == "lstm" and like.dtype != torch.float64 and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        if is_autocast(like.device) and not has_lstm_under_autocast(torch.get_autocast_dtype("cpu")):
            return "scan"
        return "scan" if ragged and config.hidden_size >= _WIDE and has_avx512() else "fused"
    narrow = _NARROW if training or torch.is_grad_enabled() else _NARROW_WITHOUT_GRADIENT
    return "fused" if config.hidden_size < narrow else "scan"


@cache
def has_lstm_under_autocast(dtype: torch.dtype) -> bool:
    """Whether PyTorch's LSTM runs under autocast to this precision on this CPU, which shows only when it is called.

    Autocast takes it to oneDNN without asking, and oneDNN has none in bfloat16 where the CPU is without AVX-512.
    """
    inputs, state, weight = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(4, 1)
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        try:
            torch.lstm(inputs, [state, state], [weight, weight], False, 1, 0.0, False, False, False)
        except RuntimeError as error:
            if "primitive" not in str(error):
                raise
            return False
    return True


def has_kernel(config: RecurrentConfig) -> bool:
    """Whether PyTorch has a kernel of the whole sequence for this cell (not: whether it is a fast one)."""
    return (
        config.kind in ("rnn_tanh", "rnn_relu", "lstm", "gru")
        and not (config.layer_norm or config.zoneout or config.zoneout_cell)
        and config.reset != "before"
    )


def run_direction(
    sequence: Float[Tensor, "flat features"],
    *,
    plan: RaggedPlan,
    method: Method,
    config: RecurrentConfig,
    weights: LayerWeights,
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    training: bool,
) -> LayerRun:
    """One layer in one direction, from the state before the first step."""
    hidden = hidden.index_select(0, plan.order)
    cell = None if cell is None else cell.index_select(0, plan.order)
    if method == "fused":
        assert isinstance(weights.cell, CellWeights)
        return _run_blocks(sequence, plan=plan, kind=config.kind, weights=weights.cell, hidden=hidden, cell=cell)
    projected = _project(sequence, kind=config.kind, weights=weights)
    if plan.has_padding and config.kind == "rnn_relu":
        # Else its state grows without bound in the padding, and a gradient of 0 times infinity is no number.
        projected = projected.masked_fill(~plan.valid.unsqueeze(-1), -torch.finfo(projected.dtype).max / 4)
    if method == "parallel":
        outputs, cells = _run_parallel(projected, config=config, plan=plan, hidden=hidden), None
    elif config.kind in MIN_KINDS:
        outputs, cells = minimal_scan(projected, kind=config.kind, num_rows=plan.num_rows, hidden=hidden), None
    elif method == "scan":
        outputs, cells = scan(
            projected,
            cell_type=scan_cell(config.kind, reset=config.reset or "after", layer_norm=config.layer_norm),
            num_rows=plan.num_rows,
            hidden=hidden,
            cell=cell,
            parameters=_recurrent_parameters(weights),
            zoneout=_draw_zoneout(config, like=projected, training=training),
        )
    else:
        outputs, cells = _run_steps(
            projected, plan=plan, config=config, weights=weights, hidden=hidden, cell=cell, training=training
        )
    last_cell = None if cells is None else cells.index_select(0, plan.last)
    return LayerRun(outputs, outputs.index_select(0, plan.last), last_cell)


def _project(sequence: Tensor, *, kind: CellKind, weights: LayerWeights) -> Tensor:
    """`core.nn.cells.project` of every step at once, by the fast product."""
    if weights.norm is None:
        return linear(sequence, weights.cell.weight_ih, weights.cell.bias_ih)
    product = linear(sequence, weights.cell.weight_ih)
    return normalise(product, kind=kind, gain=weights.norm.gain_ih, bias=weights.cell.bias_ih)


def _recurrent_parameters(weights: LayerWeights) -> list[Tensor]:
    assert isinstance(weights.cell, CellWeights)
    parameters = [weights.cell.weight_hh, weights.cell.bias_hh]
    if weights.norm is not None:
        parameters += [tensor for tensor in weights.norm[1:] if tensor is not None]
    return parameters


def _draw_zoneout(config: RecurrentConfig, *, like: Tensor, training: bool) -> Zoneout:
    def draw(probability: float) -> Tensor | float | None:
        if probability == 0.0:
            return None
        if not training:
            return probability  # in evaluation every unit keeps the expected share of its old value
        # Whole numbers of 31 random bits: PyTorch draws them three times as fast as `bernoulli_` on a CPU.
        drawn = torch.empty((like.shape[0], config.hidden_size), dtype=torch.int32, device=like.device).random_()
        return (drawn < round(probability * 2**31)).to(like.dtype)

    return Zoneout(draw(config.zoneout), draw(config.zoneout_cell))


def _run_parallel(projected: Tensor, *, config: RecurrentConfig, plan: RaggedPlan, hidden: Tensor) -> Tensor:
    # In half precision 1 - gate would be 1 for every small gate, and the state would never forget.
    exact = torch.promote_types(torch.promote_types(projected.dtype, hidden.dtype), torch.float32)
    gate, candidate = (min_gru_gates if config.kind == "min_gru" else min_lstm_gates)(projected.to(exact))
    hidden = hidden.to(exact)
    num_steps = plan.blocks[0].stop  # without a look at the lengths the plan is one rectangle
    decays, additions = (part.reshape(num_steps, -1, config.hidden_size) for part in (1 - gate, gate * candidate))
    return parallel_scan(decays, additions, first=hidden).flatten(0, 1)


def _run_steps(
    projected: Tensor,
    *,
    plan: RaggedPlan,
    config: RecurrentConfig,
    weights: LayerWeights,
    hidden: Tensor,
    cell: Tensor | None,
    training: bool,
) -> tuple[Tensor, Tensor | None]:
    assert isinstance(weights.cell, CellWeights)
    num_rows = plan.num_rows
    keep = [
        torch.split(share, num_rows) if isinstance(share, Tensor) else [share] * len(num_rows)
        for share in _draw_zoneout(config, like=projected, training=training)
    ]
    outputs, cells = [], []
    for step, keep_hidden, keep_cell in zip(torch.split(projected, num_rows), *keep, strict=True):
        new_hidden, new_cell = _update(step, config=config, weights=weights, hidden=hidden, cell=cell)
        hidden = new_hidden if keep_hidden is None else torch.lerp(new_hidden, hidden, keep_hidden)
        if new_cell is not None and cell is not None:
            cell = new_cell if keep_cell is None else torch.lerp(new_cell, cell, keep_cell)
            cells.append(cell)
        outputs.append(hidden)
    return torch.cat(outputs), torch.cat(cells) if cells else None


def _update(
    step: Tensor, *, config: RecurrentConfig, weights: LayerWeights, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    assert isinstance(weights.cell, CellWeights)
    if config.kind == "lstm":
        assert cell is not None
        return lstm_update(step, hidden=hidden, cell=cell, weights=weights.cell, norm=weights.norm)
    if config.kind == "gru":
        reset: Reset = config.reset or "after"
        return gru_update(step, hidden=hidden, weights=weights.cell, reset=reset, norm=weights.norm), None
    activation: Activation = _ACTIVATION[config.kind]
    return rnn_update(step, hidden=hidden, weights=weights.cell, activation=activation), None


_ACTIVATION: dict[CellKind, Activation] = {"rnn_tanh": "tanh", "rnn_sigmoid": "sigmoid", "rnn_relu": "relu"}


def _run_blocks(
    sequence: Tensor, *, plan: RaggedPlan, kind: CellKind, weights: CellWeights, hidden: Tensor, cell: Tensor | None
) -> LayerRun:
    """PyTorch's kernel over each block, the state handed from block to block."""
    column = padding_weights(kind, weight_ih=weights.weight_ih) if plan.has_padding else None
    if column is not None:
        padding = (~plan.valid).unsqueeze(-1).to(sequence.dtype)
        sequence = torch.cat([sequence, padding], dim=-1)
        weights = weights._replace(weight_ih=torch.cat([weights.weight_ih, column], dim=-1))
    outputs: list[Tensor] = []
    ended: list[Tensor] = []
    # One split instead of a slice a block: each slice's backward would fill the whole layout.
    for block, rows in zip(plan.blocks, torch.split(sequence, [block.size for block in plan.blocks]), strict=True):
        if cell is not None:
            ended.append(cell[block.num_rows :])
            cell = cell[: block.num_rows]
        block_outputs, hidden, cell = _run_block(
            rows.reshape(block.stop - block.start, block.num_rows, rows.shape[-1]),
            kind=kind,
            weights=weights,
            hidden=hidden[: block.num_rows],
            cell=cell,
        )
        outputs.append(block_outputs.flatten(0, 1))
    flat = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    if cell is not None:
        # Rows end from the last to the first: longest sequences stay until the last block.
        cell = torch.cat([cell, *reversed(ended)]).index_select(0, plan.rank)
    return LayerRun(flat, flat.index_select(0, plan.last), cell)


def _run_block(
    inputs: Tensor, *, kind: CellKind, weights: CellWeights, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
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
    if inputs.is_cuda and is_autocast(inputs.device):
        # Left to itself, autocast takes cuDNN's recurrences to float16 whatever it was asked for.
        dtype = product_dtype(inputs)
        with torch.autocast("cuda", enabled=False):
            return run_stack(
                inputs.to(dtype),
                kind=kind,
                hidden=hidden.to(dtype),
                cell=None if cell is None else cell.to(dtype),
                weights=[CellWeights(*(tensor.to(dtype) for tensor in layer)) for layer in weights],
                num_layers=num_layers,
                bidirectional=bidirectional,
                dropout=dropout,
                training=training,
                batch_first=batch_first,
            )
    if inputs.is_cuda and torch.is_grad_enabled():
        # cuDNN keeps what its backward pass needs in training mode alone.
        dropout, training = (dropout if training else 0.0), True
    hidden, cell = (
        hidden.contiguous(),
        None if cell is None else cell.contiguous(),
    )  # an expanded state is refused by cuDNN
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
        return column.fill_(-torch.finfo(product_dtype(weight_ih)).max / 4)
    return None

"""A recurrence with a hand-written backward, for cells or batches that PyTorch's fused kernels do not serve.

Autograd over a loop writes down every operation of every step and makes the gradient of each weight once a step. Here
the product with the inputs of all steps is one product before the loop, each step does the one product that has to wait
for the step before, and every gradient of a weight is one product after the loop. Sequences of a ragged batch, longest
first, simply drop out of the last rows: no step is computed that is not valid.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.cells import CellKind, Reset
from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.precision import is_autocast
from core.nn.recurrence.scan_cells import (
    Carried,
    GRUScan,
    LSTMScan,
    ReLUScan,
    ResetBeforeGRUScan,
    RNNScan,
    ScanCell,
    SigmoidScan,
    StepGradients,
)
from core.nn.recurrence.scan_layer_norm import LayerNormGRUScan, LayerNormLSTMScan

_CELLS: dict[CellKind, type[ScanCell]] = {
    "rnn_tanh": RNNScan,
    "rnn_sigmoid": SigmoidScan,
    "rnn_relu": ReLUScan,
    "lstm": LSTMScan,
    "gru": GRUScan,
}


class Zoneout(NamedTuple):
    """Shares of the state before that stay: drawn 0s and 1s (flat, hidden) in training, their mean in evaluation."""

    hidden: Tensor | float | None
    cell: Tensor | float | None


NO_ZONEOUT = Zoneout(None, None)


def scan_cell(kind: CellKind, *, reset: Reset = "after", layer_norm: bool = False) -> type[ScanCell]:
    """The step arithmetic of a cell."""
    if layer_norm:
        return LayerNormLSTMScan if kind == "lstm" else LayerNormGRUScan
    if kind == "gru" and reset == "before":
        return ResetBeforeGRUScan
    return _CELLS[kind]


def scan(
    projected: Float[Tensor, "flat gated"],
    *,
    cell_type: type[ScanCell],
    num_rows: Sequence[int],
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    parameters: Sequence[Tensor],
    zoneout: Zoneout = NO_ZONEOUT,
) -> tuple[Float[Tensor, "flat hidden"], Float[Tensor, "flat hidden"] | None]:
    """Hidden and, for an LSTM, cell states after every step, in the flat layout of `core.nn.recurrence.ragged`.

    Args:
        projected: U x(t) + b of every step, time-major; all rows of step 0, then those of step 1 ...
        cell_type: which cell (`scan_cell`).
        num_rows: rows of each step, never growing: sequences are sorted, longest first.
        hidden: the hidden state before the first step; rows beyond `num_rows[0]` are not read.
        cell: an LSTM's cell state likewise.
        parameters: what the recurrence needs of the layer's weights, in the order that the cell's class names.
        zoneout: which units keep their state.
    """
    device = projected.device.type
    autocast = is_autocast(projected.device)
    # In half precision only products are rounded: a state summed up over many steps would lose its small terms.
    half = torch.get_autocast_dtype(device) if autocast else projected.dtype
    exact = torch.promote_types(projected.dtype, torch.float32)
    with torch.autocast(device, enabled=False) if autocast else contextlib.nullcontext():
        outputs, cells = _Scan.apply(
            cell_type,
            list(num_rows),
            half,
            Zoneout(*(share.to(exact) if isinstance(share, Tensor) else share for share in zoneout)),
            projected.to(exact),
            hidden.to(exact),
            None if cell is None else cell.to(exact),
            *(parameter.to(exact) for parameter in parameters),
        )
    if not autocast:  # a network in half precision as a whole hands half precision on
        outputs, cells = outputs.to(projected.dtype), None if cells is None else cells.to(projected.dtype)
    return outputs, cells


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell_type: type[ScanCell],
        num_rows: list[int],
        dtype: torch.dtype,
        zoneout: Zoneout,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        arithmetic = cell_type(parameters, dtype=dtype)
        arithmetic.prepare_forward()
        num_flat, size = projected.shape[0], hidden.shape[1]
        outputs = projected.new_empty(num_flat, size)
        cells = None if cell is None else projected.new_empty(num_flat, size)
        # What the cell itself gives, before zoneout mixes the old state in: the derivative of the step needs it.
        fresh = outputs if zoneout.hidden is None else torch.empty_like(outputs)
        fresh_cells = cells if zoneout.cell is None or cells is None else torch.empty_like(cells)
        saved = [projected.new_empty(num_flat, width) for width in arithmetic.saved_widths(size)]
        before = Carried(hidden, cell)
        steps = zip(
            torch.split(projected, num_rows),
            *(_steps(tensor, num_rows) for tensor in (outputs, cells, fresh, fresh_cells, *zoneout)),
            _split_all(saved, num_rows),
            strict=True,
        )
        for step_projected, out, out_cell, new, new_cell, keep, keep_cell, step_saved in steps:
            rows = out.shape[0]
            before = Carried(before.hidden[:rows], None if before.cell is None else before.cell[:rows])
            arithmetic.forward(step_projected, before, Carried(new, new_cell), step_saved)
            if keep is not None:
                torch.lerp(new, before.hidden, keep, out=out)
            if keep_cell is not None:
                assert before.cell is not None
                torch.lerp(new_cell, before.cell, keep_cell, out=out_cell)
            before = Carried(out, out_cell)
        masks = [share if isinstance(share, Tensor) else None for share in zoneout]
        ctx.shares = [None if isinstance(share, Tensor) else share for share in zoneout]
        ctx.cell_type, ctx.num_rows, ctx.dtype = cell_type, num_rows, dtype
        ctx.gated_size, ctx.num_saved = projected.shape[1], len(saved)
        ctx.save_for_backward(hidden, cell, outputs, cells, fresh, fresh_cells, *masks, *saved, *parameters)
        ctx.set_materialize_grads(False)
        return outputs, cells

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_cells: Tensor | None) -> tuple[Any, ...]:
        hidden, cell, outputs, cells, fresh, fresh_cells, *rest = ctx.saved_tensors
        num_rows: list[int] = ctx.num_rows
        masks, saved, parameters = rest[:2], rest[2 : 2 + ctx.num_saved], rest[2 + ctx.num_saved :]
        keep, keep_cell = (share if mask is None else mask for mask, share in zip(masks, ctx.shares, strict=True))
        arithmetic: ScanCell = ctx.cell_type(parameters, dtype=ctx.dtype)
        arithmetic.prepare_backward()
        grad_projected = outputs.new_empty(outputs.shape[0], ctx.gated_size)
        grad_recurrent = grad_projected
        if arithmetic.recurrent_size is not None:
            grad_recurrent = outputs.new_empty(outputs.shape[0], arithmetic.recurrent_size * outputs.shape[1])
        before = states_before(hidden, outputs, num_rows)
        cells_before = [None] * len(num_rows) if cell is None else states_before(cell, cells, num_rows)
        steps = zip(
            num_rows,
            *(_steps(tensor, num_rows) for tensor in (grad_outputs, grad_cells, fresh, fresh_cells, keep, keep_cell)),
            before,
            cells_before,
            _steps(grad_projected, num_rows),
            _steps(grad_recurrent, num_rows),
            _split_all(saved, num_rows),
            strict=True,
        )
        carried: Tensor | None = None
        carried_cell: Tensor | None = None
        for rows, grad, grad_cell, new, new_cell, kept, kept_cell, old, old_cell, *into, step_saved in reversed(
            list(steps)
        ):
            carried = total_gradient(carried, grad, rows=rows, like=old)
            passed = None if kept is None else carried * kept
            if cell is not None:
                carried_cell = total_gradient(carried_cell, grad_cell, rows=rows, like=old)
            passed_cell = None if kept_cell is None else carried_cell * kept_cell
            carried, carried_cell = arithmetic.backward(
                Carried(
                    carried if passed is None else carried.sub_(passed),
                    carried_cell if passed_cell is None or carried_cell is None else carried_cell.sub_(passed_cell),
                ),
                Carried(old, old_cell),
                Carried(new, new_cell),
                step_saved,
                StepGradients(*into),
            )
            if passed is not None:
                carried.add_(passed)
            if passed_cell is not None and carried_cell is not None:
                carried_cell.add_(passed_cell)
        weights = arithmetic.weight_gradients(torch.cat(before), saved, grad_projected, grad_recurrent)
        grad_hidden = total_gradient(carried, None, rows=hidden.shape[0], like=hidden)
        grad_cell_before = (
            None if cell is None else total_gradient(carried_cell, None, rows=hidden.shape[0], like=hidden)
        )
        return None, None, None, None, grad_projected, grad_hidden, grad_cell_before, *weights


def _steps(tensor: Tensor | float | None, num_rows: list[int]) -> Sequence[Any]:
    return torch.split(tensor, num_rows) if isinstance(tensor, Tensor) else [tensor] * len(num_rows)


def _split_all(tensors: Sequence[Tensor], num_rows: list[int]) -> Sequence[tuple[Tensor, ...]]:
    if not tensors:
        return [()] * len(num_rows)
    return list(zip(*(torch.split(tensor, num_rows) for tensor in tensors), strict=True))


def states_before(first: Tensor, states: Tensor, num_rows: list[int]) -> list[Tensor]:
    """The state that each step started from: of the sequences that are still running, what the step before left."""
    after = torch.split(states, num_rows)
    return [state[:rows] for state, rows in zip((first, *after[:-1]), num_rows, strict=True)]


def total_gradient(carried: Tensor | None, own: Tensor | None, *, rows: int, like: Tensor) -> Tensor:
    """Gradient from the step after, of the rows that it had, plus the step's own; a tensor that may be written over."""
    if carried is None:
        return like.new_zeros(rows, like.shape[1]) if own is None else own.clone()
    if carried.shape[0] == rows:
        return carried if own is None else carried.add_(own)
    total = like.new_zeros(rows, like.shape[1]) if own is None else own.clone()
    total[: carried.shape[0]] += carried
    return total

"""A recurrent layer that looks at the source before each step, over whole targets, with a hand-written backward.

Source: Bahdanau et al., ICLR 2015, appendix A.1.2. What `core.nn.decoders.decoder_loop` does step by step through autograd,
whose bookkeeping costs more than the arithmetic of a small step; see `core.nn.recurrence.scan`, which this extends by the
attention between two steps. Targets of a ragged batch drop out of the last rows as they end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.attention import Memory
from core.nn.decoders.attention_scan import ScoreScan, over_steps, padded
from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.products import PackedWeight, weight_gradient
from core.nn.recurrence.ragged import may_look_at
from core.nn.recurrence.scan import states_before, total_gradient
from core.nn.recurrence.scan_cells import Carried, ScanCell, StepGradients

_softmax_backward = torch.ops.aten._softmax_backward_data


class AttentiveRun(NamedTuple):
    """What the loop gives, in the flat layout of `core.nn.recurrence.ragged`."""

    outputs: Float[Tensor, "flat hidden"]
    cells: Float[Tensor, "flat hidden"] | None
    contexts: Float[Tensor, "flat context"]
    weights: Float[Tensor, "flat source"]


class _Kinds(NamedTuple):
    cell: type[ScanCell]
    score: type[ScoreScan]
    num_cell_parameters: int


def attentive_scan(
    projected: Float[Tensor, "flat gated"],
    *,
    num_rows: Sequence[int],
    cell_type: type[ScanCell],
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    cell_parameters: Sequence[Tensor],
    context_weight: Float[Tensor, "gated context"],
    score_type: type[ScoreScan],
    score_parameters: Sequence[Tensor],
    memory: Memory,
) -> AttentiveRun:
    """Every step of a layer whose input has the context beside it that its last state asks for.

    Args:
        projected: what the inputs of every step give to the gates, bias included, in the flat layout.
        num_rows: rows of each step, never growing: targets are sorted, longest first, and so is all else.
        cell_type: which cell (`core.nn.recurrence.scan.scan_cell`).
        hidden: the hidden state before the first step.
        cell: an LSTM's cell state likewise.
        cell_parameters: what the recurrence needs of the layer's weights.
        context_weight: what the context is multiplied by on its way to the gates.
        score_type: how the source is scored (`core.nn.decoders.attention_scan.score_scan`).
        score_parameters: what a score is made of beside the keys.
        memory: the projected sources.
    """
    empty = ~memory.mask.any(-1, keepdim=True)
    run = _AttentiveScan.apply(
        _Kinds(cell_type, score_type, len(cell_parameters)),
        list(num_rows),
        empty if not may_look_at(empty) or bool(empty.any()) else None,
        memory.bias,
        projected,
        hidden,
        cell,
        memory.keys,
        memory.values,
        context_weight,
        *cell_parameters,
        *score_parameters,
    )
    return AttentiveRun(*run)


class _AttentiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kinds: _Kinds,
        num_rows: list[int],
        empty: Tensor | None,
        bias: Tensor,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor | None,
        keys: Tensor,
        values: Tensor,
        context_weight: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        num_cell = kinds.num_cell_parameters
        arithmetic = kinds.cell(parameters[:num_cell], dtype=projected.dtype)
        arithmetic.prepare_forward()
        score = kinds.score(keys, parameters[num_cell:], num_rows=num_rows)
        mix = PackedWeight(context_weight, dtype=projected.dtype)
        num_flat, size = projected.shape[0], hidden.shape[1]
        outputs = projected.new_empty(num_flat, size)
        cells = None if cell is None else projected.new_empty(num_flat, size)
        contexts = projected.new_empty(num_flat, values.shape[-1])
        weights = projected.new_empty(num_flat, keys.shape[1])
        saved = [projected.new_empty(num_flat, width) for width in arithmetic.saved_widths(size)]
        before = Carried(hidden, cell)
        steps = _by_step([projected, outputs, cells, contexts, weights, *saved], num_rows)
        for step_projected, out, out_cell, context, looked, *step_saved in steps:
            rows = out.shape[0]
            before = Carried(before.hidden[:rows], None if before.cell is None else before.cell[:rows])
            torch.softmax(score.forward(before.hidden).add_(bias[:rows]), -1, out=looked)
            if empty is not None:
                looked.masked_fill_(empty[:rows], 0.0)
            torch.bmm(looked.unsqueeze(1), values[:rows], out=context.unsqueeze(1))
            arithmetic.forward(mix(context).add_(step_projected), before, Carried(out, out_cell), step_saved)
            before = Carried(out, out_cell)
        ctx.kinds, ctx.num_rows, ctx.num_saved, ctx.score = kinds, num_rows, len(saved), score
        ctx.gated_size = projected.shape[1]
        ctx.save_for_backward(
            hidden, cell, values, context_weight, outputs, cells, contexts, weights, *saved, *parameters[:num_cell]
        )
        ctx.set_materialize_grads(False)
        return outputs, cells, contexts, weights

    @staticmethod
    @first_derivatives_only
    def backward(
        ctx: Any,
        grad_outputs: Tensor | None,
        grad_cells: Tensor | None,
        grad_contexts: Tensor | None,
        grad_weights: Tensor | None,
    ) -> tuple[Any, ...]:
        hidden, cell, values, context_weight, outputs, cells, contexts, weights, *rest = ctx.saved_tensors
        num_rows: list[int] = ctx.num_rows
        saved, parameters = rest[: ctx.num_saved], rest[ctx.num_saved :]
        score: ScoreScan = ctx.score
        arithmetic: ScanCell = ctx.kinds.cell(parameters, dtype=outputs.dtype)
        arithmetic.prepare_backward()
        score.prepare_backward()
        mix_back = PackedWeight(context_weight.t(), dtype=outputs.dtype)
        grad_projected = outputs.new_empty(outputs.shape[0], ctx.gated_size)
        grad_recurrent = grad_projected
        if arithmetic.recurrent_size is not None:
            grad_recurrent = outputs.new_empty(outputs.shape[0], arithmetic.recurrent_size * outputs.shape[1])
        grad_mixed = outputs.new_zeros(len(num_rows), len(hidden), values.shape[-1])
        before = states_before(hidden, outputs, num_rows)
        cells_before = [None] * len(num_rows) if cell is None else states_before(cell, cells, num_rows)
        given = [grad_outputs, grad_cells, grad_contexts, grad_weights]
        made = [outputs, cells, weights, grad_projected, grad_recurrent]
        steps = list(zip(before, cells_before, _by_step([*given, *made, *saved], num_rows), strict=True))
        carried: Tensor | None = None
        carried_cell: Tensor | None = None
        for step in reversed(range(len(num_rows))):
            old, old_cell, (grad, grad_cell, grad_context, grad_looked, *of_step) = steps[step]
            new, new_cell, looked, into, into_recurrent, *step_saved = of_step
            rows = num_rows[step]
            carried = total_gradient(carried, grad, rows=rows, like=old)
            if cell is not None:
                carried_cell = total_gradient(carried_cell, grad_cell, rows=rows, like=old)
            carried, carried_cell = arithmetic.backward(
                Carried(carried, carried_cell),
                Carried(old, old_cell),
                Carried(new, new_cell),
                step_saved,
                StepGradients(into, into_recurrent),
            )
            mixed = mix_back(into)
            if grad_context is not None:
                mixed.add_(grad_context)
            grad_mixed[step, :rows] = mixed
            by_weights = torch.bmm(values[:rows], mixed.unsqueeze(2)).squeeze(2)
            if grad_looked is not None:
                by_weights.add_(grad_looked)
            # Zero where a source is empty, whose weights are.
            grad_scores = _softmax_backward(by_weights, looked, -1, looked.dtype)
            carried.add_(score.backward(grad_scores, step=step))
        queries = torch.cat(before)
        grad_keys, *grad_score_parameters = score.gradients(queries)
        cell_gradients = arithmetic.weight_gradients(queries, saved, grad_projected, grad_recurrent)
        return (
            *(None, None, None, None),
            grad_projected,
            total_gradient(carried, None, rows=len(hidden), like=hidden),
            None if cell is None else total_gradient(carried_cell, None, rows=len(hidden), like=hidden),
            grad_keys,
            over_steps(padded(weights, num_rows, like=values), grad_mixed),
            weight_gradient(grad_projected, contexts),
            *cell_gradients,
            *grad_score_parameters,
        )


def _by_step(tensors: Sequence[Tensor | None], num_rows: list[int]) -> list[tuple[Any, ...]]:
    parts: list[Sequence[Any]] = [
        [None] * len(num_rows) if tensor is None else torch.split(tensor, num_rows) for tensor in tensors
    ]
    return list(zip(*parts, strict=True))

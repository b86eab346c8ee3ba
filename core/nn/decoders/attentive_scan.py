"""A recurrent layer that looks at the source at every step, over whole targets, with a hand-written backward.

What `core.nn.decoders.decoder_loop` does step by step through autograd, whose bookkeeping costs more than the arithmetic of
a small step; see `core.nn.recurrence.scan`, which this extends by the attention. Targets of a ragged batch drop out of
the last rows as they end.

Sources: attention before the step of Bahdanau et al., ICLR 2015, appendix A.1.2; after it, with input feeding, of Luong
et al., EMNLP 2015, sections 3.1 and 3.3.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from core.nn.attention import Memory
from core.nn.decoders.attention_scan import AttentionScan, ScoreScan
from core.nn.decoders.layer_scan import LayerScan, by_step
from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.products import PackedWeight, weight_gradient
from core.nn.recurrence.ragged import may_look_at
from core.nn.recurrence.scan import states_before, total_gradient
from core.nn.recurrence.scan_cells import ScanCell


class Layer(NamedTuple):
    """The recurrent layer: its cell (`core.nn.recurrence.scan.scan_cell`) and what the recurrence needs of its weights."""

    cell: type[ScanCell]
    parameters: Sequence[Tensor]


class Scores(NamedTuple):
    """How the source is scored (`core.nn.decoders.attention_scan.score_scan`), and by what beside the keys."""

    kind: type[ScoreScan]
    parameters: Sequence[Tensor]


class Gate(NamedTuple):
    """sigmoid(weight h + bias), which scales the context."""

    weight: Float[Tensor, "1 hidden"]
    bias: Float[Tensor, "1"]


class AttentiveRun(NamedTuple):
    """What a loop gives, in the flat layout of `core.nn.recurrence.ragged`."""

    outputs: Float[Tensor, "flat hidden"]
    cells: Float[Tensor, "flat hidden"] | None
    attended: Float[Tensor, "flat context"]
    """Contexts, gated where they are, of attention before the step; attentional vectors, of attention after it."""
    weights: Float[Tensor, "flat source"]


def scan_before(
    projected: Float[Tensor, "flat gated"],
    *,
    num_rows: Sequence[int],
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    layer: Layer,
    context_weight: Float[Tensor, "gated context"],
    gate: Gate | None,
    scores: Scores,
    memory: Memory,
) -> AttentiveRun:
    """The last state looks, and the context stands beside the input.

    Args:
        projected: what the inputs of every step give to the gates, bias included, in the flat layout.
        num_rows: rows of each step, never growing: targets are sorted, longest first, and so is all else.
        hidden: the hidden state before the first step.
        cell: an LSTM's cell state likewise.
        layer: the recurrent layer.
        context_weight: what the context is multiplied by on its way to the gates.
        gate: what scales the context before; None for nothing.
        scores: how the source is scored.
        memory: the projected sources.
    """
    fixed = _Fixed.of(layer, scores, memory, num_rows)
    tensors = (projected, hidden, cell, memory.keys, memory.values, context_weight, *(gate or (None, None)))
    return AttentiveRun(*_ScanBefore.apply(fixed, *tensors, *layer.parameters, *scores.parameters))


def scan_after(
    projected: Float[Tensor, "flat gated"],
    *,
    num_rows: Sequence[int],
    hidden: Float[Tensor, "batch hidden"],
    cell: Float[Tensor, "batch hidden"] | None,
    fed: Float[Tensor, "batch readout"],
    layer: Layer,
    fed_weight: Float[Tensor, "gated readout"],
    readout_weight: Float[Tensor, "readout joined"],
    readout_bias: Float[Tensor, "readout"],
    scores: Scores,
    memory: Memory,
) -> AttentiveRun:
    """The new state looks; tanh(W [c; h] + b), the attentional vector, stands beside the next step's input.

    Args: as of `scan_before`, and
        fed: the attentional vector before the first step.
        fed_weight: what it is multiplied by on its way to the gates.
        readout_weight: W.
        readout_bias: b.
    """
    fixed = _Fixed.of(layer, scores, memory, num_rows)
    tensors = (projected, hidden, cell, fed, memory.keys, memory.values, fed_weight, readout_weight, readout_bias)
    return AttentiveRun(*_ScanAfter.apply(fixed, *tensors, *layer.parameters, *scores.parameters))


class _Fixed(NamedTuple):
    """What has no gradient."""

    cell: type[ScanCell]
    num_cell_parameters: int
    score: type[ScoreScan]
    num_rows: list[int]
    bias: Tensor
    empty: Tensor | None

    @classmethod
    def of(cls, layer: Layer, scores: Scores, memory: Memory, num_rows: Sequence[int]) -> "_Fixed":
        empty = ~memory.mask.any(-1, keepdim=True)
        is_known_full = may_look_at(empty) and not bool(empty.any())
        return cls(
            layer.cell,
            len(layer.parameters),
            scores.kind,
            list(num_rows),
            memory.bias,
            None if is_known_full else empty,
        )


class _ScanBefore(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fixed: _Fixed,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor | None,
        keys: Tensor,
        values: Tensor,
        context_weight: Tensor,
        gate_weight: Tensor | None,
        gate_bias: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        num_rows = fixed.num_rows
        layer, look = _halves(fixed, parameters, projected, hidden, cell, keys, values)
        mix = PackedWeight(context_weight, dtype=projected.dtype)
        outputs, cells = layer.prepare_forward()
        contexts = projected.new_empty(len(projected), values.shape[-1])
        seen: Tensor | None = None
        gates: Tensor | None = None
        if gate_weight is not None:
            seen, gates = torch.empty_like(contexts), projected.new_empty(len(projected), 1)
        weights = projected.new_empty(len(projected), keys.shape[1])
        steps = by_step([projected, contexts, seen, gates, weights], num_rows)
        for step, (given, context, plain, gate, looked) in enumerate(steps):
            state = layer.before(step)
            look.forward(state, weights=looked, context=context if plain is None else plain)
            if gate_weight is not None:
                assert gate_bias is not None
                torch.sigmoid(torch.addmm(gate_bias, state, gate_weight.t()), out=gate)
                torch.mul(plain, gate, out=context)
            layer.forward(mix(context).add_(given), step=step)
        layer.release()
        ctx.fixed, ctx.layer, ctx.look = fixed, layer, look
        # Inputs too, so that autograd refuses those that were written over in between.
        inputs = (hidden, cell, keys, values, *parameters)
        ctx.save_for_backward(context_weight, gate_weight, outputs, cells, contexts, seen, gates, weights, *inputs)
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
        context_weight, gate_weight, outputs, cells, contexts, seen, gates, weights, *_ = ctx.saved_tensors
        layer: LayerScan = ctx.layer
        look: AttentionScan = ctx.look
        num_rows: list[int] = ctx.fixed.num_rows
        layer.prepare_backward(outputs, cells, grad_cells)
        look.prepare_backward()
        mix_back = PackedWeight(context_weight.t(), dtype=outputs.dtype)
        grad_gates = None if gates is None else torch.empty_like(gates)  # before the sigmoid
        buffers = [grad_outputs, grad_contexts, grad_weights, weights, seen, gates, grad_gates]
        steps = by_step(buffers, num_rows)
        for step in reversed(range(len(num_rows))):
            grad, grad_context, grad_looked, looked, plain, gate, grad_gate = steps[step]
            grad = total_gradient(layer.carried, grad, rows=num_rows[step], like=outputs)
            mixed = mix_back(layer.backward(grad, step=step))
            if grad_context is not None:
                mixed.add_(grad_context)
            assert layer.carried is not None
            if gate_weight is not None:
                torch.ops.aten.sigmoid_backward.grad_input(
                    torch.linalg.vecdot(mixed, plain).unsqueeze(1), gate, grad_input=grad_gate
                )
                layer.carried.addmm_(grad_gate, gate_weight)
                mixed = mixed * gate
            layer.carried.add_(look.backward(mixed, grad_looked, weights=looked, step=step))
        states, layer_gradients = layer.gradients()
        queries = torch.cat(layer.states)
        grad_keys, grad_values, *score_gradients = look.gradients(queries, weights)
        grad_context_weight = weight_gradient(layer.grad_projected, contexts)
        gate_gradients = (None, None) if grad_gates is None else (grad_gates.t() @ queries, grad_gates.sum(0))
        given = (layer.grad_projected, *states, grad_keys, grad_values, grad_context_weight, *gate_gradients)
        layer.release()
        return None, *given, *layer_gradients, *score_gradients


class _ScanAfter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        fixed: _Fixed,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor | None,
        fed: Tensor,
        keys: Tensor,
        values: Tensor,
        fed_weight: Tensor,
        readout_weight: Tensor,
        readout_bias: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        num_rows = fixed.num_rows
        layer, look = _halves(fixed, parameters, projected, hidden, cell, keys, values)
        feed = PackedWeight(fed_weight, dtype=projected.dtype)
        read = PackedWeight(readout_weight, readout_bias, dtype=projected.dtype)
        outputs, cells = layer.prepare_forward()
        context_size = values.shape[-1]
        joined = projected.new_empty(len(projected), context_size + hidden.shape[1])
        vectors = projected.new_empty(len(projected), len(readout_bias))
        weights = projected.new_empty(len(projected), keys.shape[1])
        last = fed
        for step, (given, both, vector, looked) in enumerate(by_step([projected, joined, vectors, weights], num_rows)):
            layer.before(step)
            state = layer.forward(feed(last[: len(given)]).add_(given), step=step)
            context = torch.empty(len(given), context_size, dtype=both.dtype, device=both.device)
            look.forward(state, weights=looked, context=context)
            torch.cat([context, state], dim=1, out=both)
            torch.tanh(read(both), out=vector)
            last = vector
        layer.release()
        ctx.fixed, ctx.layer, ctx.look = fixed, layer, look
        inputs = (hidden, cell, keys, values, *parameters)
        made = (outputs, cells, joined, vectors, weights)
        ctx.save_for_backward(fed, fed_weight, readout_weight, *made, *inputs)
        ctx.set_materialize_grads(False)
        return outputs, cells, vectors, weights

    @staticmethod
    @first_derivatives_only
    def backward(
        ctx: Any,
        grad_outputs: Tensor | None,
        grad_cells: Tensor | None,
        grad_vectors: Tensor | None,
        grad_weights: Tensor | None,
    ) -> tuple[Any, ...]:
        fed, fed_weight, readout_weight, outputs, cells, joined, vectors, weights, *_ = ctx.saved_tensors
        layer: LayerScan = ctx.layer
        look: AttentionScan = ctx.look
        num_rows: list[int] = ctx.fixed.num_rows
        layer.prepare_backward(outputs, cells, grad_cells)
        look.prepare_backward()
        feed_back = PackedWeight(fed_weight.t(), dtype=outputs.dtype)
        read_back = PackedWeight(readout_weight.t(), dtype=outputs.dtype)
        grad_read = torch.empty_like(vectors)  # before tanh
        context_size = joined.shape[1] - outputs.shape[1]
        fed_before = states_before(fed, vectors, num_rows)
        steps = by_step([grad_outputs, grad_vectors, grad_weights, vectors, weights, grad_read], num_rows)
        carried_fed: Tensor | None = None
        for step in reversed(range(len(num_rows))):
            grad, grad_vector, grad_looked, vector, looked, into = steps[step]
            grad_vector = total_gradient(carried_fed, grad_vector, rows=num_rows[step], like=vectors)
            torch.ops.aten.tanh_backward.grad_input(grad_vector, vector, grad_input=into)
            by_context, by_state = torch.split(read_back(into), [context_size, outputs.shape[1]], dim=1)
            grad = total_gradient(layer.carried, grad, rows=num_rows[step], like=outputs).add_(by_state)
            grad.add_(look.backward(by_context, grad_looked, weights=looked, step=step))
            carried_fed = feed_back(layer.backward(grad, step=step))
        states, layer_gradients = layer.gradients()
        grad_keys, grad_values, *score_gradients = look.gradients(outputs, weights)
        given = (
            layer.grad_projected,
            *states,
            total_gradient(carried_fed, None, rows=len(fed), like=fed),
            grad_keys,
            grad_values,
            weight_gradient(layer.grad_projected, torch.cat(fed_before)),
            weight_gradient(grad_read, joined),
            grad_read.sum(0),
        )
        layer.release()
        return None, *given, *layer_gradients, *score_gradients


def _halves(
    fixed: _Fixed,
    parameters: Sequence[Tensor],
    projected: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    keys: Tensor,
    values: Tensor,
) -> tuple[LayerScan, AttentionScan]:
    num_cell = fixed.num_cell_parameters
    layer = LayerScan(
        fixed.cell,
        parameters[:num_cell],
        num_rows=fixed.num_rows,
        hidden=hidden,
        cell=cell,
        gated_size=projected.shape[1],
    )
    look = AttentionScan(
        fixed.score,
        (keys, values, fixed.bias),
        empty=fixed.empty,
        parameters=parameters[num_cell:],
        num_rows=fixed.num_rows,
    )
    return layer, look

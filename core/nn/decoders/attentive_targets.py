"""Whole targets through the hand-written loops of `attentive_scan.py`, for the decoders that they serve."""

import torch
from torch import Tensor

from core.nn.attention import Memory
from core.nn.cells import CellWeights, RecurrentState
from core.nn.decoders.attention_scan import score_scan
from core.nn.decoders.attentive_scan import Gate, Layer, Scores, scan_after, scan_before
from core.nn.decoders.cell_loop import is_plain
from core.nn.decoders.decoder_config import AttentionAfter, AttentionBefore
from core.nn.decoders.decoder_loop import CarriedState, DecoderParts
from core.nn.decoders.loop_products import apply_linear
from core.nn.recurrence.precision import is_autocast
from core.nn.recurrence.ragged import RaggedPlan, is_traced, may_look_at, plan_blocks, plan_dense, plan_rectangle
from core.nn.recurrence.scan import scan_cell


def can_scan(parts: DecoderParts, inputs: Tensor, lengths: Tensor | None, state: CarriedState) -> bool:
    """Whether they serve: one plain layer, attention before the step or input feeding."""
    config = parts.config.recurrent
    return (
        (isinstance(parts.config.context, AttentionBefore) or parts.config.feeds_inputs)
        and parts.attention is not None
        and score_scan(parts.attention) is not None
        and is_plain(config)
        and config.num_layers == 1
        and state.memory is not None
        and inputs.dtype in (torch.float32, torch.float64)
        and not is_traced()
        and not is_autocast(inputs.device)
        # Its state grows without bound in the padding, where the lengths are not looked at.
        and not (config.kind == "rnn_relu" and lengths is not None and not may_look_at(lengths))
    )


def run_scan(
    parts: DecoderParts, inputs: Tensor, lengths: Tensor | None, state: CarriedState
) -> tuple[Tensor, Tensor, CarriedState]:
    """Features (before dropout) and attention weights of every step, and the state after the last valid ones."""
    num_rows, num_steps, input_size = inputs.shape
    assert parts.attention is not None
    assert state.memory is not None
    score = score_scan(parts.attention)
    assert score is not None
    plan = _plan(lengths, num_rows=num_rows, num_steps=num_steps, device=inputs.device)
    layer, config = parts.layers.first, parts.config.recurrent
    weights = CellWeights(*(getattr(layer, f"{name}_l0") for name in CellWeights._fields))
    # One split, not two slices: the backward pass of each would fill the whole matrix.
    widths = [input_size, weights.weight_ih.shape[1] - input_size]
    input_weight, beside_weight = torch.split(weights.weight_ih, widths, dim=1)
    flat = plan.gather(inputs)
    projected = apply_linear(flat, input_weight, weights.bias_ih)
    hidden, cell = state.recurrent.hidden[0], None if state.recurrent.cell is None else state.recurrent.cell[0]
    by_row = _by_row(state.memory, num_rows)
    mask, bias = (part.index_select(0, plan.order) for part in (by_row.mask, by_row.bias))
    memory = Memory(plan.sort(by_row.keys), plan.sort(by_row.values), mask, bias)
    first = plan.sort(hidden), None if cell is None else plan.sort(cell)
    cell_layer = Layer(scan_cell(config.kind, reset=layer.reset), [weights.weight_hh, weights.bias_hh])
    fed = state.fed
    if isinstance(parts.config.context, AttentionAfter):
        assert fed is not None, "checked by the decoder"
        run = scan_after(
            projected,
            num_rows=plan.num_rows,
            hidden=first[0],
            cell=first[1],
            fed=plan.sort(fed),
            layer=cell_layer,
            fed_weight=beside_weight,
            readout_weight=parts.readout.linear.weight,
            readout_bias=parts.readout.linear.bias,
            scores=Scores(*score),
            memory=memory,
        )
        features = run.attended
        fed = _last(run.attended, fed, plan=plan, lengths=lengths)
    else:
        run = scan_before(
            projected,
            num_rows=plan.num_rows,
            hidden=first[0],
            cell=first[1],
            layer=cell_layer,
            context_weight=beside_weight,
            gate=None if parts.gate is None else Gate(parts.gate.weight, parts.gate.bias),
            scores=Scores(*score),
            memory=memory,
        )
        features = parts.readout(run.attended, run.outputs, flat)
    last_hidden = _last(run.outputs, hidden, plan=plan, lengths=lengths).unsqueeze(0)
    last_cell = None
    if run.cells is not None and cell is not None:
        last_cell = _last(run.cells, cell, plan=plan, lengths=lengths).unsqueeze(0)
    after = state._replace(recurrent=RecurrentState(last_hidden, last_cell), fed=fed)
    return plan.scatter(features, num_steps=num_steps), plan.scatter(run.weights, num_steps=num_steps), after


def _by_row(memory: Memory, num_rows: int) -> Memory:
    """One source a row out of one an example: each step then takes the first rows of it, whatever example they are of."""
    num_examples = memory.mask.shape[0]
    if num_rows == num_examples:
        return memory
    each = num_rows // num_examples
    return Memory(*(part.unsqueeze(1).expand(-1, each, *part.shape[1:]).flatten(0, 1) for part in memory))


def _plan(lengths: Tensor | None, *, num_rows: int, num_steps: int, device: torch.device) -> RaggedPlan:
    if lengths is None:
        return plan_dense(num_rows, num_steps=num_steps, device=device)
    if may_look_at(lengths):
        return plan_blocks(lengths, num_steps=num_steps, block_cost=None)
    return plan_rectangle(lengths, num_steps=num_steps)


def _last(states: Tensor, first: Tensor, *, plan: RaggedPlan, lengths: Tensor | None) -> Tensor:
    """The state after each target's last step; of an empty one, that before the first."""
    found = states.index_select(0, plan.last)
    return found if lengths is None else torch.where((lengths == 0).unsqueeze(-1), first, found)

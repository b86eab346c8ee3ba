"""How far back the gradient reaches: ||dL/dh(t)|| over the steps of recurrent layers, exactly (notes N11).

dL/dh(t) is the total gradient that arrives at a hidden state: through the layer above and the loss at step t, and through
the recurrence from step t + 1. A fused kernel shows the first part only, so for this measurement every layer and direction
runs on its own, one call a step, with the same weights and the same result.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.cells import CellWeights, InputWeights, NormWeights, RecurrentState
from core.nn.lengths import reverse_within_lengths, valid_steps
from core.nn.recurrent import Recurrent


class _Trace(NamedTuple):
    """The hidden states of one call of a recurrent network."""

    lengths: Tensor
    hidden: list[list[Tensor]]
    """For each layer and direction, for each step in reading order: `(1, batch, hidden)`."""


def layer_names(recurrent: Recurrent) -> list[str]:
    """Names of the layers and directions, as the weights have them: l0, l0_reverse, l1 ..."""
    directions = ("", "_reverse") if recurrent.config.bidirectional else ("",)
    return [f"l{layer}{direction}" for layer in range(recurrent.config.num_layers) for direction in directions]


def hidden_gradient_norms(
    recurrent: Recurrent,
    inputs: Float[Tensor, "batch time features"],
    lengths: Int[Tensor, "batch"] | None,
    *,
    loss: Callable[[Tensor, RecurrentState], Tensor],
    state: RecurrentState | None = None,
) -> Float[Tensor, "layers_directions time"]:
    """||dL/dh(t)|| of every layer and direction at every step, its mean over the sequences that have the step.

    Measured as in evaluation, without dropout; no gradient is left in the weights. In float64; steps that no sequence has
    are NaN.

    Args:
        recurrent: the recurrent layers.
        inputs: padded sequences.
        lengths: valid steps of each sequence; None where all are valid.
        loss: L as a function of the outputs and the last state, a scalar; the sum over sequences, or each one's gradient
            is scaled down by their number.
        state: the state before the first step; None for the initial one.

    Raises:
        ValueError: where the loss does not depend on the outputs.
    """
    return network_gradient_norms(recurrent, lambda: loss(*recurrent(inputs, lengths, state)))[""]


def network_gradient_norms(
    network: nn.Module, loss: Callable[[], Tensor]
) -> dict[str, Float[Tensor, "layers_directions time"]]:
    """`hidden_gradient_norms` of every `Recurrent` that the loss calls, by its name in the network.

    Where the loss calls one of them several times, as chunk by chunk, the calls follow each other in time. The layers of a
    decoder that feeds its own outputs back are run by a loop of its own and are not measured.

    Args:
        network: the network; it is measured in evaluation mode, and left in the mode it was in.
        loss: computes the loss with the network, a scalar.

    Raises:
        ValueError: where the loss does not depend on a recurrent layer.
    """
    training = {module: module.training for module in network.modules()}
    # cuDNN refuses gradients in evaluation mode; it has nothing to gain on single steps either.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False), _stepping(network) as traces:
        try:
            network.eval()
            value = loss()
        finally:
            for module, mode in training.items():
                module.training = mode
    states = [hidden for calls in traces.values() for call in calls for layer in call.hidden for hidden in layer]
    if not states or not value.requires_grad:
        raise ValueError(
            "The loss does not depend on a recurrent layer that could be measured, so there is no gradient to follow. (The "
            "layers of a decoder that feeds its own outputs back are not.)"
        )
    found = iter(torch.autograd.grad(value, states, allow_unused=True))
    norms: dict[str, Tensor] = {}
    for name, calls in traces.items():
        if not calls:
            continue
        reverse = [suffix.endswith("_reverse") for suffix in layer_names(_recurrent(network, name))]
        of_calls = []
        for call in calls:
            layers = []
            for layer, backward in zip(call.hidden, reverse, strict=True):
                gradients = [torch.zeros_like(hidden) if got is None else got for hidden, got in _paired(layer, found)]
                layers.append(_mean_norms(torch.cat(gradients).transpose(0, 1), call.lengths, reverse=backward))
            of_calls.append(torch.stack(layers))
        norms[name] = torch.cat(of_calls, dim=1)
    return norms


def decades_lost(norms: Float[Tensor, "time"], *, reverse: bool = False) -> float:
    """Powers of ten by which the gradient shrinks on its way through the whole sequence; negative where it grows.

    From the straight line through log10 ||dL/dh(t)|| over t, so that single steps do not decide.

    Args:
        norms: ||dL/dh(t)||; steps that are NaN are left out.
        reverse: whether the layer reads from the end, so that its gradient travels to later steps.
    """
    norms = norms.double()
    steps = (~norms.isnan()).nonzero().squeeze(1)
    if len(steps) < 2:
        return 0.0
    whole = float(steps[-1] - steps[0])
    # Exact zeros are gradients too small for their number format: they have no logarithm, and those before them tell more.
    steps = steps[norms[steps] > 0]
    if len(steps) < 2:
        return torch.inf
    logarithm = norms[steps].log10()
    centred = steps.double() - steps.double().mean()
    slope = float((centred * logarithm).sum() / centred.square().sum())
    return whole * (-slope if reverse else slope)


def _paired(layer: list[Tensor], found: Iterator[Tensor | None]) -> Iterator[tuple[Tensor, Tensor | None]]:
    for hidden in layer:
        yield hidden, next(found)


def _recurrent(network: nn.Module, name: str) -> Recurrent:
    module = network.get_submodule(name)
    assert isinstance(module, Recurrent)
    return module


def _mean_norms(gradients: Tensor, lengths: Tensor, *, reverse: bool) -> Tensor:
    """`(batch, time, hidden)` in reading order -> `(time,)` in the order of the sequence."""
    if reverse:
        gradients = reverse_within_lengths(gradients, lengths)
    valid = valid_steps(lengths, gradients.shape[1])
    # In float64, where the squares of what float32 can hold do not vanish.
    norms: Tensor = torch.linalg.vector_norm(gradients, dim=-1, dtype=torch.float64)
    return norms.masked_fill(~valid, 0.0).sum(0) / valid.sum(0)


@contextmanager
def _stepping(network: nn.Module) -> Iterator[dict[str, list[_Trace]]]:
    """Let every `Recurrent` of a network run step by step and note its hidden states."""
    traces: dict[str, list[_Trace]] = {}
    replaced = []
    try:
        for name, module in network.named_modules():
            if isinstance(module, Recurrent):
                traces[name] = []
                module.__dict__["forward"] = _noting(module, traces[name])
                replaced.append(module)
        yield traces
    finally:
        for module in replaced:
            del module.__dict__["forward"]


def _noting(recurrent: Recurrent, calls: list[_Trace]) -> Callable[..., tuple[Tensor, RecurrentState]]:
    def forward(
        inputs: Tensor, lengths: Tensor | None, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        if lengths is None:
            lengths = torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
        state = recurrent.initial_state(len(inputs)) if state is None else state
        trace = _Trace(lengths, [])
        calls.append(trace)
        return _run_steps(recurrent, inputs, lengths=lengths, state=state, trace=trace)

    return forward


def _run_steps(
    recurrent: Recurrent, inputs: Tensor, *, lengths: Tensor, state: RecurrentState, trace: _Trace
) -> tuple[Tensor, RecurrentState]:
    """What `Recurrent.forward` computes in evaluation mode, each hidden state a tensor of its own."""
    config = recurrent.config
    # Frozen weights and inputs without a gradient still have hidden states with one.
    state = state._replace(hidden=state.hidden + torch.zeros_like(state.hidden).requires_grad_())
    padding = ~valid_steps(lengths, inputs.shape[1]).unsqueeze(-1)
    layer_inputs, last = inputs, []
    for layer in range(config.num_layers):
        directions = []
        for direction in range(config.num_directions):
            index = layer * config.num_directions + direction
            single = _single_layer(recurrent, index, input_size=layer_inputs.shape[-1])
            cell = None if state.cell is None else state.cell[index : index + 1]
            current = RecurrentState(state.hidden[index : index + 1], cell)
            sequence = reverse_within_lengths(layer_inputs, lengths) if direction else layer_inputs
            hidden = []
            for step in range(inputs.shape[1]):
                _, current = single(sequence[:, step : step + 1], (lengths > step).long(), current)
                hidden.append(current.hidden)
            trace.hidden.append(hidden)
            last.append(current)
            # The same tensors go up and on, so that both gradients meet in them.
            outputs = torch.cat(hidden).transpose(0, 1).masked_fill(padding, 0.0)
            directions.append(reverse_within_lengths(outputs, lengths) if direction else outputs)
        outputs = torch.cat(directions, dim=-1)
        layer_inputs = outputs + layer_inputs if config.residual and layer > 0 else outputs
    cells = [current.cell for current in last if current.cell is not None]
    final = RecurrentState(torch.cat([current.hidden for current in last]), torch.cat(cells) if cells else None)
    return layer_inputs, final


def _single_layer(recurrent: Recurrent, index: int, *, input_size: int) -> Recurrent:
    """One layer in one direction as a network of its own, with the same weights."""
    suffix = layer_names(recurrent)[index]
    # Built bare: a copy would bring along hooks, parametrisations, and what stands in for `forward`.
    single = Recurrent.__new__(Recurrent)
    nn.Module.__init__(single)
    single.config = dataclasses.replace(
        recurrent.config,
        num_layers=1,
        bidirectional=False,
        dropout=0.0,
        locked_dropout=False,
        residual=False,
        learn_initial_state=False,
    )
    single.input_size = input_size
    single.reset = recurrent.reset
    single.train(recurrent.training)
    for name in {*CellWeights._fields, *InputWeights._fields, *NormWeights._fields}:
        weight = getattr(recurrent, f"{name}_{suffix}", None)
        if weight is not None:
            setattr(single, f"{name}_l0", weight)
    return single

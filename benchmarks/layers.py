"""Recurrent layers against `torch.nn` and against loops that autograd differentiates."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.case import Case, Sizes, compare, training_step
from core.nn.cells import CellWeights, NormWeights, lstm_step, min_gru_gates
from core.nn.dropout import LockedDropout
from core.nn.recurrence.minimal_scan import minimal_scan
from core.nn.recurrence.parallel_scan import parallel_scan
from core.nn.recurrent import Recurrent, RecurrentConfig

# Merity et al., arXiv:1708.02182, for a language model of this depth.
WEIGHT_DROP = 0.5
LOCKED_DROPOUT = 0.4
# Krueger et al., arXiv:1606.01305, section 4.2.
ZONEOUT = 0.05
ZONEOUT_CELL = 0.5


def torch_layer(config: RecurrentConfig, sizes: Sizes, *, ragged: bool) -> Case:
    """Against the module itself on a dense batch, or over packed sequences on a ragged one."""
    torch.manual_seed(0)
    model = Recurrent(config, input_size=sizes.hidden).to(sizes.device)
    rival = {"lstm": nn.LSTM, "gru": nn.GRU}[config.kind](
        sizes.hidden, sizes.hidden, bidirectional=config.bidirectional, batch_first=True
    ).to(sizes.device)
    rival.load_state_dict(model.state_dict())
    inputs, weight = _data(sizes, outputs=model.output_size)
    name = f"torch.nn.{config.kind.upper()}"
    if not ragged:
        ours = training_step(model, lambda leaf: model(leaf, None)[0], weight=weight, inputs=inputs)
        theirs = training_step(rival, lambda leaf: rival(leaf)[0], weight=weight, inputs=inputs)
        return Case(ours, theirs, name, compare(ours, theirs))
    # Evenly over the range and then shuffled: a drawn batch may have a tenth more or fewer steps than the average one.
    spread = torch.linspace(sizes.steps // 4, sizes.steps, sizes.batch).round().long()
    lengths = spread[torch.randperm(sizes.batch)]
    there = lengths.to(sizes.device)

    def packed(leaf: Tensor) -> Tensor:
        sequence = pack_padded_sequence(leaf, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(rival(sequence)[0], batch_first=True, total_length=sizes.steps)[0]

    ours = training_step(model, lambda leaf: model(leaf, there)[0], weight=weight, inputs=inputs)
    theirs = training_step(rival, packed, weight=weight, inputs=inputs)
    return Case(ours, theirs, f"{name}, packed", compare(ours, theirs))


def regularised_lstm(sizes: Sizes) -> Case:
    """Weight drop and locked dropout at both ends against `nn.LSTM` without them; compared in evaluation."""
    torch.manual_seed(0)
    config = RecurrentConfig(kind="lstm", hidden_size=sizes.hidden, weight_drop=WEIGHT_DROP)
    model = Recurrent(config, input_size=sizes.hidden).to(sizes.device)
    dropout = LockedDropout(LOCKED_DROPOUT)
    rival = nn.LSTM(sizes.hidden, sizes.hidden, batch_first=True).to(sizes.device)
    rival.load_state_dict(model.state_dict())
    inputs, weight = _data(sizes, outputs=sizes.hidden)
    ours = training_step(model, lambda leaf: dropout(model(dropout(leaf), None)[0]), weight=weight, inputs=inputs)
    theirs = training_step(rival, lambda leaf: rival(leaf)[0], weight=weight, inputs=inputs)
    return Case(ours, theirs, "torch.nn.LSTM, not regularised", _in_evaluation(compare(ours, theirs), model, dropout))


class NormalisedLoop(nn.Module):
    """The layer-normalised LSTM with zoneout as a loop over its cell that autograd differentiates."""

    def __init__(self, model: Recurrent) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of every step."""
        parameters = {name.removesuffix("_l0"): parameter for name, parameter in self.named_parameters()}
        weights = CellWeights(*(parameters[name] for name in CellWeights._fields))
        norm = NormWeights(*(parameters[name] for name in NormWeights._fields))
        hidden = cell = inputs.new_zeros(len(inputs), weights.weight_hh.shape[1])
        outputs = []
        for step in inputs.unbind(1):
            new_hidden, new_cell = lstm_step(step, hidden=hidden, cell=cell, weights=weights, norm=norm)
            hidden = self._zone_out(new_hidden, hidden, ZONEOUT)
            cell = self._zone_out(new_cell, cell, ZONEOUT_CELL)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    def _zone_out(self, new: Tensor, old: Tensor, probability: float) -> Tensor:
        if not self.training:
            return torch.lerp(new, old, probability)
        return torch.where(torch.rand_like(new) < probability, old, new)


def normalised_lstm(sizes: Sizes) -> Case:
    """Layer norm and zoneout against the same in an autograd loop.

    Compared in evaluation, because masks are drawn, and in float64: dividing by a small deviation magnifies rounding.
    """
    torch.manual_seed(0)
    config = RecurrentConfig(
        kind="lstm", hidden_size=sizes.hidden, layer_norm=True, zoneout=ZONEOUT, zoneout_cell=ZONEOUT_CELL
    )
    model = Recurrent(config, input_size=sizes.hidden).to(sizes.device)
    rival = NormalisedLoop(model)
    inputs, weight = _data(sizes, outputs=sizes.hidden)
    ours = training_step(model, lambda leaf: model(leaf, None)[0], weight=weight, inputs=inputs)
    theirs = training_step(rival, rival, weight=weight, inputs=inputs)
    exact = copy.deepcopy(model).double(), copy.deepcopy(rival).double()
    tensors = {"weight": weight.double(), "inputs": inputs.double()}
    exactly = compare(
        training_step(exact[0], lambda leaf: exact[0](leaf, None)[0], **tensors),
        training_step(exact[1], exact[1], **tensors),
    )
    return Case(ours, theirs, "autograd step loop", _in_evaluation(exactly, *exact))


def minimal_gru(sizes: Sizes) -> Case:
    """The recurrence over gates and candidates made before it, the same for both sides, against its autograd loop."""
    torch.manual_seed(0)
    weight = torch.randn(sizes.long_steps, sizes.batch, sizes.hidden, device=sizes.device)
    projected = torch.randn(sizes.long_steps, sizes.batch, 2 * sizes.hidden, device=sizes.device)
    first = torch.zeros(sizes.batch, sizes.hidden, device=sizes.device)

    def run(projected: Tensor) -> Tensor:
        if projected.device.type != "cpu":
            gate, candidate = min_gru_gates(projected)
            return parallel_scan(1 - gate, gate * candidate, first=first)
        num_rows = [sizes.batch] * len(projected)
        states = minimal_scan(projected.flatten(0, 1), kind="min_gru", num_rows=num_rows, hidden=first)
        return states.reshape(weight.shape)

    ours = training_step(nn.Module(), run, weight=weight, projected=projected)
    theirs = training_step(nn.Module(), _minimal_loop, weight=weight, projected=projected)
    return Case(ours, theirs, "autograd step loop", compare(ours, theirs))


def minimal_gru_layer(sizes: Sizes) -> Case:
    """The whole layer, products included."""
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(kind="min_gru", hidden_size=sizes.hidden), input_size=sizes.hidden)
    model = model.to(sizes.device)
    inputs, weight = _data(replace(sizes, steps=sizes.long_steps), outputs=sizes.hidden)
    parameters = dict(model.named_parameters())

    def loop(leaf: Tensor) -> Tensor:
        projected = F.linear(leaf.transpose(0, 1), parameters["weight_ih_l0"], parameters["bias_ih_l0"])
        return _minimal_loop(projected).transpose(0, 1)

    ours = training_step(model, lambda leaf: model(leaf, None)[0], weight=weight, inputs=inputs)
    theirs = training_step(model, loop, weight=weight, inputs=inputs)
    return Case(ours, theirs, "autograd step loop, hoisted products", compare(ours, theirs))


def _minimal_loop(projected: Tensor) -> Tensor:
    """Every state (time, batch, hidden) of the minimal GRU from zeros."""
    gates, candidates = min_gru_gates(projected)
    hidden = torch.zeros_like(candidates[0])
    outputs = []
    for gate, candidate in zip(gates.unbind(0), candidates.unbind(0), strict=True):
        hidden = (1 - gate) * hidden + gate * candidate
        outputs.append(hidden)
    return torch.stack(outputs)


def _data(sizes: Sizes, *, outputs: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(sizes.batch, sizes.steps, sizes.hidden, device=sizes.device)
    return inputs, torch.randn(sizes.batch, sizes.steps, outputs, device=sizes.device)


def _in_evaluation(differences: Callable[[], list[str]], *modules: nn.Module) -> Callable[[], list[str]]:
    def run() -> list[str]:
        for module in modules:
            module.eval()
        found = differences()
        for module in modules:
            module.train()
        return found

    return run

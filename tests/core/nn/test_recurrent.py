"""Recurrent layers over ragged batches against the cells in a plain loop, finite differences, and themselves."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.cells import (
    CELL_KINDS,
    CellWeights,
    InputWeights,
    NormWeights,
    RecurrentState,
    gru_step,
    lstm_step,
    min_gru_step,
    min_lstm_step,
    rnn_step,
)
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.recurrent_config import MIN_KINDS
from tests.core.nn.recurrent_cases import (
    FEATURES,
    Case,
    Recipe,
    assert_equal,
    laid_out,
    ours,
    random_state,
    recipes,
    values_and_gradients,
)
from tests.shape_checks import unchecked


def one_step(
    case: Case, name: str, inputs: Tensor, hidden: Tensor, cell: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The definition of a step, zoneout in evaluation included; `name` is a layer and direction."""
    config = case.model.config
    parameters = dict(case.model.named_parameters())

    def read(kind: type, fields: tuple[str, ...]) -> NamedTuple:
        return kind(*(parameters[f"{field}_{name}"] for field in fields))

    new_cell = None
    if config.kind in MIN_KINDS:
        step = {"min_gru": min_gru_step, "min_lstm": min_lstm_step}[config.kind]
        return step(inputs, hidden=hidden, weights=read(InputWeights, InputWeights._fields)), None
    weights = read(CellWeights, CellWeights._fields)
    norm = None
    if config.layer_norm:
        norm = read(NormWeights, NormWeights._fields if config.kind == "lstm" else NormWeights._fields[:2])
    if config.kind == "lstm":
        new, new_cell = lstm_step(inputs, hidden=hidden, cell=cell, weights=weights, norm=norm)
        new_cell = config.zoneout_cell * cell + (1 - config.zoneout_cell) * new_cell
    elif config.kind == "gru":
        new = gru_step(inputs, hidden=hidden, weights=weights, reset=config.reset or "after", norm=norm)
    else:
        new = rnn_step(inputs, hidden=hidden, weights=weights, activation=config.kind.removeprefix("rnn_"))
    return config.zoneout * hidden + (1 - config.zoneout) * new, new_cell


def loop(case: Case, inputs: Tensor) -> tuple[Tensor, RecurrentState]:
    """The definition: one sequence, one direction, one step at a time."""
    config = case.model.config
    state = case.state or case.model.initial_state(inputs.shape[0])
    rows, hiddens, cells = [], [], []
    for row, length in enumerate(case.lengths.tolist()):
        sequence = list(inputs[row, :length])
        row_hidden, row_cell = [], []
        for layer in range(config.num_layers):
            directions = []
            for direction, suffix in enumerate(("", "_reverse")[: config.num_directions]):
                index = layer * config.num_directions + direction
                hidden = state.hidden[index, row : row + 1]
                cell = None if state.cell is None else state.cell[index, row : row + 1]
                outputs = []
                for step in reversed(sequence) if direction else sequence:
                    hidden, cell = one_step(case, f"l{layer}{suffix}", step.unsqueeze(0), hidden, cell)
                    outputs.append(hidden[0])
                row_hidden.append(hidden[0])
                row_cell.append(cell)
                directions.append(outputs[::-1] if direction else outputs)
            outputs = [torch.cat(parts) for parts in zip(*directions, strict=True)]
            if config.residual and layer > 0:
                outputs = [output + below for output, below in zip(outputs, sequence, strict=True)]
            sequence = outputs
        padding = inputs.new_zeros(inputs.shape[1] - length, config.output_size)
        rows.append(torch.cat([torch.stack(sequence), padding]) if sequence else padding)
        hiddens.append(torch.stack(row_hidden))
        if config.kind == "lstm":
            cells.append(torch.cat(row_cell))
    cell = torch.stack(cells, dim=1) if cells else None
    return torch.stack(rows), RecurrentState(torch.stack(hiddens, dim=1), cell)


@settings(deadline=None, max_examples=250)
@given(recipe=recipes())
def test_every_configuration_is_the_cells_in_a_loop(recipe: Recipe) -> None:
    """Lengths 0 and 1, initial states given, learned or zero, in every layout: values and all gradients."""
    case = recipe.make()
    assert_equal(ours(case), values_and_gradients(lambda inputs: loop(case, inputs), case))


@settings(deadline=None, max_examples=40)
@given(recipe=recipes(directions=(False,)), cut=st.integers(1, 6))
def test_a_carried_state_continues_the_sequence(recipe: Recipe, cut: int) -> None:
    """Two chunks with the state handed over are the whole (notes N6); rows that ended in the first pass through."""
    case = recipe._replace(extra_steps=recipe.extra_steps + 1).make()
    cut = min(cut, case.inputs.shape[1] - 1)
    with laid_out(case.layout):
        outputs, state = case.model(case.inputs, case.lengths, case.state)
        first, carried = case.model(case.inputs[:, :cut], case.lengths.clamp(max=cut), case.state)
        second, last = case.model(case.inputs[:, cut:], (case.lengths - cut).clamp(min=0), carried)
    torch.testing.assert_close(torch.cat([first, second], dim=1), outputs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(last, state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "changed",
    [
        *({"kind": kind} for kind in CELL_KINDS),
        {"kind": "gru", "reset": "before"},
        {"kind": "gru", "layer_norm": True, "zoneout": 0.2},
        {"kind": "lstm", "layer_norm": True, "zoneout": 0.2, "zoneout_cell": 0.4},
        {"kind": "rnn_relu", "zoneout": 0.2},
    ],
    ids=str,
)
def test_gradients_are_those_of_finite_differences(changed: dict[str, Any]) -> None:
    """Inputs, first state and every weight; in training, with the same masks at every call."""
    config = RecurrentConfig(**{"hidden_size": 2, "bidirectional": True, **changed})
    model = Recurrent(config, input_size=2).double()
    inputs = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    before = random_state(model, 3)
    parts = tuple(part for part in before if part is not None)
    weights = dict(model.named_parameters())

    def run(inputs: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        state = RecurrentState(*tensors[: len(parts)])
        given = dict(zip(weights, tensors[len(parts) :], strict=True))
        outputs, after = torch.func.functional_call(model, given, (inputs, torch.tensor([2, 4, 1]), state))
        return outputs, *(part for part in after if part is not None)

    with laid_out("scan"):
        run(inputs, *parts, *weights.values())
        with unchecked():  # the hundreds of calls that follow are of the same shapes
            assert torch.autograd.gradcheck(run, (inputs, *parts, *weights.values()))


def test_dropout_acts_between_layers_in_training_alone() -> None:
    config = RecurrentConfig(kind="gru", hidden_size=32, num_layers=2, dropout=0.5)
    model = Recurrent(config, input_size=FEATURES)
    inputs = torch.randn(4, 9, FEATURES)
    for lengths in (None, torch.tensor([9, 4, 1, 6])):
        model.train()
        (first, first_state), (second, second_state) = model(inputs, lengths), model(inputs, lengths)
        assert not torch.equal(first, second)
        # The lowest layer is before any dropout.
        assert torch.equal(first_state.hidden[0], second_state.hidden[0])
        model.eval()
        assert torch.equal(model(inputs, lengths)[0], model(inputs, lengths)[0])

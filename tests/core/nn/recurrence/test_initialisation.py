"""Where recurrent weights start."""

import pytest
import torch
from torch import Tensor

from core.nn.cells import CELL_KINDS, NUM_GATES, CellKind, CellWeights, InputWeights, NormWeights, RecurrentState
from core.nn.recurrence.initialisation import initialise_cell_
from core.nn.recurrent import Recurrent
from core.nn.recurrent_config import MIN_KINDS, RecurrentConfig


def empty(*shape: int) -> Tensor:
    return torch.full(shape, torch.nan, dtype=torch.float64)


def fresh(kind: CellKind, *, hidden_size: int, features: int) -> CellWeights | InputWeights:
    gated = NUM_GATES[kind] * hidden_size
    weights: CellWeights | InputWeights
    if kind in MIN_KINDS:
        weights = InputWeights(empty(gated, features), empty(gated))
    else:
        weights = CellWeights(empty(gated, features), empty(gated, hidden_size), empty(gated), empty(gated))
    initialise_cell_(weights, kind=kind)
    return weights


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_each_gate_starts_as_its_paper_says(kind: CellKind) -> None:
    hidden_size, features = 16, 10
    weights = fresh(kind, hidden_size=hidden_size, features=features)
    bound = (6 / (hidden_size + features)) ** 0.5
    for gate in weights.weight_ih.split(hidden_size):
        # The bound of one gate, not of the stack of them: 160 draws come near it.
        assert 0.9 * bound < gate.abs().max() <= bound
    bias = weights.bias_ih
    if isinstance(weights, CellWeights):
        bias = bias + weights.bias_hh
        for gate in weights.weight_hh.split(hidden_size):
            torch.testing.assert_close(gate @ gate.T, torch.eye(hidden_size, dtype=torch.float64))
    forget = {"lstm": 1, "min_lstm": 0}.get(kind)
    expected = [1.0 if gate == forget else 0.0 for gate in range(NUM_GATES[kind]) for _ in range(hidden_size)]
    assert bias.tolist() == expected


@pytest.mark.parametrize("forget_bias", [None, -1.0, 3.0])
@pytest.mark.parametrize("kind", ["lstm", "min_lstm", "gru"])
def test_a_state_fades_at_first_as_the_forget_bias_says(kind: CellKind, forget_bias: float | None) -> None:
    config = RecurrentConfig(kind=kind, hidden_size=4, forget_bias=forget_bias)
    model = Recurrent(config, input_size=3).double()
    past = torch.randn(1, 2, 4, dtype=torch.float64)
    # Without input and recurrent product, what a step keeps is up to the biases alone.
    for name, weight in model.named_parameters():
        if name.startswith("weight"):
            torch.nn.init.zeros_(weight)
    before = RecurrentState(torch.zeros_like(past), past) if kind == "lstm" else RecurrentState(past, None)
    _, after = model(torch.zeros(2, 1, 3, dtype=torch.float64), None, before)
    start = {"lstm": 1.0, "min_lstm": 1.0, "gru": 0.0}[kind] if forget_bias is None else forget_bias
    kept = torch.sigmoid(torch.tensor(start, dtype=torch.float64))
    if kind == "min_lstm":
        kept = kept / (kept + 0.5)  # normalised by the input gate, whose bias is 0
    torch.testing.assert_close(after.cell if kind == "lstm" else after.hidden, kept * past)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_every_layer_and_direction_has_the_forget_bias(kind: CellKind) -> None:
    config = RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, bidirectional=True, forget_bias=2.0)
    biases = [bias for name, bias in Recurrent(config, input_size=3).named_parameters() if name.startswith("bias_ih")]
    assert len(biases) == 4
    for bias in biases:
        assert [set(gate.tolist()) == {2.0} for gate in bias.chunk(NUM_GATES[kind])] == [
            gate == 1 for gate in range(NUM_GATES[kind])
        ]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_normalised_cells_start_with_gains_of_one(kind: CellKind) -> None:
    gated = NUM_GATES[kind] * 4
    weights = CellWeights(empty(gated, 3), empty(gated, 4), empty(gated), empty(gated))
    norm = NormWeights(empty(gated), empty(gated), *((empty(4), empty(4)) if kind == "lstm" else ()))
    initialise_cell_(weights, kind=kind, norm=norm)
    for name, tensor in norm._asdict().items():
        assert tensor is None or torch.equal(tensor, torch.full_like(tensor, 0.0 if name == "bias_cell" else 1.0))

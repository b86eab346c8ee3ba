"""Where recurrent weights start."""

import pytest
import torch

from core.nn.cells import CELL_KINDS, NUM_GATES, CellKind, CellWeights
from core.nn.initialisation import initialise_cell_


def fresh(kind: CellKind, *, hidden_size: int, features: int) -> CellWeights:
    gated = NUM_GATES[kind] * hidden_size
    shapes = [(gated, features), (gated, hidden_size), (gated,), (gated,)]
    weights = CellWeights(*(torch.full(shape, torch.nan, dtype=torch.float64) for shape in shapes))
    initialise_cell_(weights, kind=kind)
    return weights


@pytest.mark.parametrize("kind", CELL_KINDS)
def test_each_gate_starts_as_its_paper_says(kind: CellKind) -> None:
    hidden_size, features = 16, 10
    weights = fresh(kind, hidden_size=hidden_size, features=features)
    for gate in weights.weight_hh.split(hidden_size):
        torch.testing.assert_close(gate @ gate.T, torch.eye(hidden_size, dtype=torch.float64))
    bound = (6 / (hidden_size + features)) ** 0.5
    for gate in weights.weight_ih.split(hidden_size):
        # The bound of one gate, not of the stack of them: 160 draws come near it.
        assert 0.9 * bound < gate.abs().max() <= bound
    bias = weights.bias_ih + weights.bias_hh
    expected = torch.zeros_like(bias)
    if kind == "lstm":
        expected[hidden_size : 2 * hidden_size] = 1
    assert torch.equal(bias, expected)

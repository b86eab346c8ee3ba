"""The minimal cells' recurrence in blocks against the cells in a loop."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.cells import CellKind, min_gru_gates, min_lstm_gates
from core.nn.recurrence import minimal_scan as module
from core.nn.recurrence.minimal_scan import minimal_scan


def loop(projected: Tensor, *, kind: CellKind, num_rows: list[int], hidden: Tensor) -> Tensor:
    gates, candidates = (min_gru_gates if kind == "min_gru" else min_lstm_gates)(projected)
    states = []
    for rows, gate, candidate in zip(num_rows, gates.split(num_rows), candidates.split(num_rows), strict=True):
        hidden = hidden[:rows] + gate * (candidate - hidden[:rows])
        states.append(hidden)
    return torch.cat(states)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["min_gru", "min_lstm"]),
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    beyond=st.integers(0, 2),
    block_elements=st.sampled_from([1, 8, 20, 1000]),
    seed=st.integers(0, 2**31),
)
def test_equal_to_the_loop_in_values_and_gradients(
    kind: CellKind, rows: list[int], beyond: int, block_elements: int, seed: int
) -> None:
    """Blocks of one step and of many, cut where sequences end; rows of the first state that no step reads."""
    torch.manual_seed(seed)
    num_rows = sorted(rows, reverse=True)
    size = 3
    gated = size * (2 if kind == "min_gru" else 3)
    projected = torch.randn(sum(num_rows), gated, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(num_rows[0] + beyond, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(sum(num_rows), size, dtype=torch.float64)
    with mock.patch.object(module, "_BLOCK_ELEMENTS", block_elements):
        ours = minimal_scan(projected, kind=kind, num_rows=num_rows, hidden=hidden)
        gradients = torch.autograd.grad(ours, (projected, hidden), weight)
    expected = loop(projected, kind=kind, num_rows=num_rows, hidden=hidden)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    wanted = torch.autograd.grad(expected, (projected, hidden), weight)
    torch.testing.assert_close(gradients, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["min_gru", "min_lstm"])
def test_gradients_are_those_of_finite_differences(kind: CellKind) -> None:
    gated = 2 * (2 if kind == "min_gru" else 3)
    leaves = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, gated), (3, 2))]
    assert torch.autograd.gradcheck(
        lambda projected, hidden: minimal_scan(projected, kind=kind, num_rows=[3, 2, 1], hidden=hidden), leaves
    )

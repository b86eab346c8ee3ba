"""The cells' steps against PyTorch's, and the state they carry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from core.nn.cells import CellWeights, RecurrentState, gru_step, lstm_step, rnn_step

sizes = st.integers(1, 6)


def weights_of(cell: nn.RNNCellBase) -> CellWeights:
    return CellWeights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(batch=sizes, features=sizes, hidden_size=sizes, activation=st.sampled_from(["tanh", "relu"]))
def test_rnn_step_is_torchs(batch: int, features: int, hidden_size: int, activation: str) -> None:
    cell = nn.RNNCell(features, hidden_size, nonlinearity=activation, dtype=torch.float64)
    inputs, hidden = draw(batch, features), draw(batch, hidden_size)
    ours = rnn_step(inputs, hidden=hidden, weights=weights_of(cell), activation=activation)
    torch.testing.assert_close(ours, cell(inputs, hidden), rtol=1e-12, atol=1e-12)


def test_rnn_step_with_sigmoid_is_the_notes_formula() -> None:
    cell = nn.RNNCell(3, 4, dtype=torch.float64)
    inputs, hidden = draw(2, 3), draw(2, 4)
    expected = 1 / (
        1 + torch.exp(-(hidden @ cell.weight_hh.T + inputs @ cell.weight_ih.T + cell.bias_ih + cell.bias_hh))
    )
    ours = rnn_step(inputs, hidden=hidden, weights=weights_of(cell), activation="sigmoid")
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(batch=sizes, features=sizes, hidden_size=sizes)
def test_lstm_step_is_torchs(batch: int, features: int, hidden_size: int) -> None:
    cell = nn.LSTMCell(features, hidden_size, dtype=torch.float64)
    inputs, hidden, memory = draw(batch, features), draw(batch, hidden_size), draw(batch, hidden_size)
    ours = lstm_step(inputs, hidden=hidden, cell=memory, weights=weights_of(cell))
    torch.testing.assert_close(ours, cell(inputs, (hidden, memory)), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(batch=sizes, features=sizes, hidden_size=sizes)
def test_gru_step_is_torchs(batch: int, features: int, hidden_size: int) -> None:
    cell = nn.GRUCell(features, hidden_size, dtype=torch.float64)
    inputs, hidden = draw(batch, features), draw(batch, hidden_size)
    ours = gru_step(inputs, hidden=hidden, weights=weights_of(cell))
    torch.testing.assert_close(ours, cell(inputs, hidden), rtol=1e-12, atol=1e-12)


def test_gru_step_with_reset_before_is_cho_et_al() -> None:
    """Eq. 5-8 written out; the forms differ, so the reset gate's place is really read."""
    cell = nn.GRUCell(3, 4, dtype=torch.float64)
    inputs, hidden = draw(2, 3), draw(2, 4)
    u_reset, u_update, u_candidate = (inputs @ cell.weight_ih.T + cell.bias_ih).chunk(3, dim=-1)
    w_reset, w_update, w_candidate = cell.weight_hh.chunk(3)
    b_reset, b_update, b_candidate = cell.bias_hh.chunk(3)
    reset = torch.sigmoid(u_reset + hidden @ w_reset.T + b_reset)
    update = torch.sigmoid(u_update + hidden @ w_update.T + b_update)
    candidate = torch.tanh(u_candidate + (reset * hidden) @ w_candidate.T + b_candidate)
    expected = update * hidden + (1 - update) * candidate
    before = gru_step(inputs, hidden=hidden, weights=weights_of(cell), reset="before")
    torch.testing.assert_close(before, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before, gru_step(inputs, hidden=hidden, weights=weights_of(cell)), atol=1e-3)


@pytest.mark.parametrize("with_cell", [False, True])
def test_state_is_cut_selected_and_moved_as_one(with_cell: bool) -> None:
    hidden = draw(2, 3, 4).requires_grad_()
    state = RecurrentState(hidden, hidden * 2 if with_cell else None)
    chosen = state.select(torch.tensor([2, 0, 0]))
    assert torch.equal(chosen.hidden, hidden[:, [2, 0, 0]])
    moved = state.to("cpu", dtype=torch.float32)
    assert moved.hidden.dtype == torch.float32
    assert not state.detach().hidden.requires_grad
    for other in (chosen, moved, state.detach()):
        assert (other.cell is not None) == with_cell
        if other.cell is not None:
            torch.testing.assert_close(other.cell, other.hidden * 2)
            assert other.cell.requires_grad == other.hidden.requires_grad


def test_state_is_a_pytree() -> None:
    """Exporters and Lightning take it apart and put it together again."""
    state = RecurrentState(draw(1, 2, 3), draw(1, 2, 3))
    leaves, structure = pytree.tree_flatten(state)
    assert len(leaves) == 2
    assert isinstance(pytree.tree_unflatten(leaves, structure), RecurrentState)

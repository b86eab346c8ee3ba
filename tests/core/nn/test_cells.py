"""The cells' steps against PyTorch's, and the state they carry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from core.nn.cells import (
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


def layer_norm(rows: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Ba et al., eq. 4: mean and deviation over the units of one example."""
    mean = rows.mean(dim=-1, keepdim=True)
    variance = (rows - mean).square().mean(dim=-1, keepdim=True)
    return gain * (rows - mean) / (variance + 1e-5).sqrt() + bias


def test_layer_normalised_lstm_step_is_ba_et_al() -> None:
    """Eq. 20-22 written out."""
    cell = nn.LSTMCell(3, 4, dtype=torch.float64)
    norm = NormWeights(draw(16), draw(16), draw(4), draw(4))
    inputs, hidden, memory = draw(2, 3), draw(2, 4), draw(2, 4)
    gates = layer_norm(hidden @ cell.weight_hh.T, norm.gain_hh, cell.bias_hh)
    gates = gates + layer_norm(inputs @ cell.weight_ih.T, norm.gain_ih, cell.bias_ih)
    i, f, g, o = gates.chunk(4, dim=-1)
    new_memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    new_hidden = torch.sigmoid(o) * torch.tanh(layer_norm(new_memory, norm.gain_cell, norm.bias_cell))
    ours = lstm_step(inputs, hidden=hidden, cell=memory, weights=weights_of(cell), norm=norm)
    torch.testing.assert_close(ours, (new_hidden, new_memory), rtol=1e-12, atol=1e-12)


def test_layer_normalised_gru_step_is_ba_et_al() -> None:
    """The supplement's equations: the two gates are normalised together, the candidate's products apart."""
    cell = nn.GRUCell(3, 4, dtype=torch.float64)
    norm = NormWeights(draw(12), draw(12))
    inputs, hidden = draw(2, 3), draw(2, 4)
    products = [
        (inputs @ cell.weight_ih.T, norm.gain_ih, cell.bias_ih),
        (hidden @ cell.weight_hh.T, norm.gain_hh, cell.bias_hh),
    ]
    gates = sum(layer_norm(rows[:, :8], gain[:8], bias[:8]) for rows, gain, bias in products)
    reset, update = torch.sigmoid(gates).chunk(2, dim=-1)
    fresh, past = (layer_norm(rows[:, 8:], gain[8:], bias[8:]) for rows, gain, bias in products)
    candidate = torch.tanh(fresh + reset * past)
    expected = update * hidden + (1 - update) * candidate
    ours = gru_step(inputs, hidden=hidden, weights=weights_of(cell), norm=norm)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_minimal_steps_are_feng_et_al() -> None:
    """Sections 3.1.3 and 3.2.3 written out."""
    inputs, hidden = draw(2, 3), draw(2, 4)
    weights = InputWeights(draw(8, 3), draw(8))
    update, candidate = (inputs @ weights.weight_ih.T + weights.bias_ih).chunk(2, dim=-1)
    update = torch.sigmoid(update)
    expected = (1 - update) * hidden + update * candidate
    torch.testing.assert_close(min_gru_step(inputs, hidden=hidden, weights=weights), expected, rtol=1e-12, atol=1e-12)
    weights = InputWeights(draw(12, 3), draw(12))
    forget, take, candidate = (inputs @ weights.weight_ih.T + weights.bias_ih).chunk(3, dim=-1)
    forget, take = torch.sigmoid(forget), torch.sigmoid(take)
    expected = forget / (forget + take) * hidden + take / (forget + take) * candidate
    torch.testing.assert_close(min_lstm_step(inputs, hidden=hidden, weights=weights), expected, rtol=1e-12, atol=1e-12)


def test_a_minimal_lstm_whose_gates_are_all_shut_gives_a_number() -> None:
    """Both gates underflow to 0 in float32, and their quotient would be 0 / 0."""
    weights = InputWeights(torch.zeros(3, 1), torch.tensor([-300.0, -301.0, 5.0]))
    after = min_lstm_step(torch.zeros(1, 1), hidden=torch.ones(1, 1), weights=weights)
    torch.testing.assert_close(after, 1 + 4 * torch.sigmoid(torch.tensor([[-1.0]])))


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

"""||dL/dh(t)|| against products of Jacobians, the cells in a plain loop, and itself (notes N11)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.nn.cells import CELL_KINDS, CellWeights, RecurrentState, lstm_step
from core.nn.gradient_flow import _stepping, decades_lost, hidden_gradient_norms, layer_names, network_gradient_norms
from core.nn.lengths import last_valid_step, reverse_within_lengths
from core.nn.recurrent import Recurrent, RecurrentConfig

FEATURES = 3


def make(*, seed: int = 0, **settings: object) -> Recurrent:
    torch.manual_seed(seed)
    model = Recurrent(RecurrentConfig(**{"kind": "lstm", "hidden_size": 4, **settings}), input_size=FEATURES).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def mixed(outputs: Tensor, state: RecurrentState) -> Tensor:
    """A loss on every output and the last state, all weighed otherwise."""
    parts = [outputs, state.hidden, *([] if state.cell is None else [state.cell])]
    return sum((p.square() * torch.cos(torch.arange(p.numel()).reshape(p.shape))).sum() for p in parts)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(CELL_KINDS),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    extras=st.booleans(),
    all_valid=st.booleans(),
    seed=st.integers(0, 999),
)
def test_step_by_step_is_the_same_network(
    kind: str, lengths: list[int], num_layers: int, bidirectional: bool, extras: bool, all_valid: bool, seed: int
) -> None:
    """Every setting that a recurrent network has, or the measurement would be of another one."""
    model = make(
        kind=kind,
        num_layers=num_layers,
        bidirectional=bidirectional,
        learn_initial_state=extras,
        residual=extras and num_layers > 1,
        dropout=0.5 if extras and num_layers > 1 else 0.0,
        locked_dropout=extras and num_layers > 1,
        layer_norm=extras and kind in ("lstm", "gru"),
        zoneout=0.2 if extras and not kind.startswith("min_") else 0.0,
        weight_drop=0.2 if extras and not kind.startswith("min_") else 0.0,
        seed=seed,
    ).eval()
    inputs = torch.randn(len(lengths), max(1, *lengths) + 1, FEATURES, dtype=torch.float64)
    inputs[torch.arange(inputs.shape[1]) >= torch.tensor(lengths).unsqueeze(1)] = 0.0 if all_valid else torch.nan
    given_lengths = None if all_valid else torch.tensor(lengths)
    expected = model(inputs, given_lengths)
    with _stepping(model) as traces:
        torch.testing.assert_close(model(inputs, given_lengths), expected, rtol=1e-10, atol=1e-10)
    assert len(traces[""][0].hidden) == len(layer_names(model)) == num_layers * (1 + bidirectional)
    torch.testing.assert_close(model(inputs, given_lengths), expected, rtol=0, atol=0)  # itself again


def test_a_tanh_network_gives_the_product_of_jacobians() -> None:
    """dh(T)/dh(t) = product over k from t + 1 to T of diag(1 - h(k)^2) W (Pascanu et al., ICML 2013, eq. 5)."""
    model = make(kind="rnn_tanh")
    inputs = torch.randn(1, 12, FEATURES, dtype=torch.float64)
    direction = torch.randn(4, dtype=torch.float64)
    hidden = model(inputs, None)[0][0].detach()
    expected, gradient = [], direction
    for step in reversed(range(12)):
        expected.insert(0, gradient.norm())
        gradient = ((1 - hidden[step].square()) * gradient) @ model.weight_hh_l0.detach()
    norms = hidden_gradient_norms(model, inputs, None, loss=lambda outputs, _: outputs[0, -1] @ direction)
    torch.testing.assert_close(norms, torch.stack(expected).unsqueeze(0), rtol=1e-12, atol=1e-12)


def test_every_layer_gets_what_comes_from_above_and_from_later() -> None:
    """Two LSTM layers in a plain loop over the cells, each hidden state kept."""
    model = make(num_layers=2)
    inputs = torch.randn(3, 7, FEATURES, dtype=torch.float64)
    weights = [CellWeights(*(getattr(model, f"{name}_l{layer}") for name in CellWeights._fields)) for layer in (0, 1)]
    kept: list[list[Tensor]] = [[], []]
    hidden = [torch.zeros(3, 4, dtype=torch.float64) for _ in range(2)]
    cell = list(hidden)
    for step in range(7):
        below = inputs[:, step]
        for layer in (0, 1):
            hidden[layer], cell[layer] = lstm_step(
                below, hidden=hidden[layer], cell=cell[layer], weights=weights[layer]
            )
            hidden[layer].retain_grad()
            kept[layer].append(hidden[layer])
            below = hidden[layer]
    mixed(torch.stack(kept[1], dim=1), RecurrentState(torch.stack(hidden), torch.stack(cell))).backward()
    expected = torch.stack([torch.stack([h.grad.norm(dim=-1).mean() for h in layer]) for layer in kept])
    norms = hidden_gradient_norms(model, inputs, None, loss=mixed)
    torch.testing.assert_close(norms, expected, rtol=1e-10, atol=1e-10)


def test_the_backward_direction_is_measured_in_the_order_of_the_sequence() -> None:
    both, one = make(kind="gru", bidirectional=True), make(kind="gru")
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            parameter.copy_(getattr(both, f"{name}_reverse"))
    inputs, lengths = torch.randn(2, 9, FEATURES, dtype=torch.float64), torch.tensor([9, 5])
    weight = torch.randn(2, 9, 4, dtype=torch.float64)
    backward = hidden_gradient_norms(both, inputs, lengths, loss=lambda outputs, _: (outputs[..., 4:] * weight).sum())
    alone = [
        hidden_gradient_norms(
            one,
            reverse_within_lengths(inputs[i : i + 1, :length], torch.tensor([length])),
            None,
            loss=lambda outputs, _, i=i, length=length: (outputs.flip(1) * weight[i, :length]).sum(),
        )[0].flip(0)
        for i, length in enumerate(lengths.tolist())
    ]
    expected = alone[0].clone()
    expected[:5] = (alone[0][:5] + alone[1]) / 2
    torch.testing.assert_close(backward[1], expected, rtol=1e-10, atol=1e-10)
    assert not backward[0].any()  # the loss does not read the forward half


def test_padding_is_not_measured() -> None:
    model = make(num_layers=2)
    inputs, lengths = torch.randn(3, 8, FEATURES, dtype=torch.float64), torch.tensor([3, 6, 0])
    loss = lambda outputs, _: last_valid_step(outputs, lengths).sum()  # noqa: E731
    norms = hidden_gradient_norms(model, inputs, lengths, loss=loss)
    assert norms[:, :6].isfinite().all()
    assert norms[:, 6:].isnan().all()
    inputs[0, 3:] = torch.inf
    torch.testing.assert_close(
        hidden_gradient_norms(model, inputs, lengths, loss=loss), norms, rtol=0, atol=0, equal_nan=True
    )


def test_norms_reach_as_far_down_as_the_gradients_do() -> None:
    """The square of 1e-30 is no number of float32, but 1e-30 is."""
    model = make(kind="gru").float()
    inputs = torch.randn(2, 3, FEATURES)
    large, small = (
        hidden_gradient_norms(model, inputs, None, loss=lambda outputs, _, scale=scale: outputs[:, -1].sum() * scale)
        for scale in (1.0, 1e-30)
    )
    assert small.dtype == torch.float64
    torch.testing.assert_close(small, large * 1e-30, rtol=1e-4, atol=0)


class Network(nn.Module):
    """A recurrent layer that is called chunk by chunk, another that is not called, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.unused = make(), make()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Linear(4, 1).double().requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        first, state = self.recurrent(self.dropout(inputs[:, :5]), None)
        rest, _ = self.recurrent(inputs[:, 5:], None, state)
        outputs: Tensor = self.frozen(torch.cat([first, rest], dim=1)[:, -1])
        return outputs


def test_a_network_is_measured_as_in_evaluation_and_left_as_it_was() -> None:
    network = Network().train()
    network.frozen.eval()
    network.recurrent.requires_grad_(False)
    inputs = torch.randn(2, 9, FEATURES, dtype=torch.float64)
    before = torch.get_rng_state()
    found = network_gradient_norms(network, lambda: network(inputs).sum())
    assert torch.equal(torch.get_rng_state(), before)
    expected = hidden_gradient_norms(
        network.recurrent, inputs, None, loss=lambda outputs, _: network.frozen(outputs[:, -1]).sum()
    )
    assert found.keys() == {"recurrent"}
    torch.testing.assert_close(found["recurrent"], expected, rtol=1e-10, atol=1e-12)
    assert network.training
    assert network.dropout.training
    assert not network.frozen.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert "forward" not in network.recurrent.__dict__
    with pytest.raises(RuntimeError, match="on the way"):
        network_gradient_norms(network, lambda: (_ for _ in ()).throw(RuntimeError("on the way")))
    assert network.training
    assert "forward" not in network.recurrent.__dict__


def test_a_loss_beside_the_recurrent_layers_is_refused() -> None:
    model = make()
    with pytest.raises(ValueError, match="does not depend on a recurrent layer"):
        network_gradient_norms(model, lambda: torch.ones((), requires_grad=True))
    with pytest.raises(ValueError, match="does not depend on a recurrent layer"):
        hidden_gradient_norms(model, torch.zeros(1, 2, FEATURES).double(), None, loss=lambda *_: torch.ones(()))


@given(factor=st.floats(-0.5, 0.5), num_steps=st.integers(2, 60), missing=st.integers(0, 5))
def test_a_straight_line_loses_what_lies_between_its_ends(factor: float, num_steps: int, missing: int) -> None:
    norms = 10.0 ** (factor * torch.arange(num_steps, dtype=torch.float64))
    padded = torch.cat([norms, torch.full((missing,), torch.nan, dtype=torch.float64)])
    assert decades_lost(padded) == pytest.approx(factor * (num_steps - 1), abs=1e-6)
    assert decades_lost(padded, reverse=True) == pytest.approx(-factor * (num_steps - 1), abs=1e-6)


def test_gradients_too_small_for_their_format_are_extrapolated() -> None:
    norms = 10.0 ** (torch.arange(100, dtype=torch.float64) - 99)
    assert decades_lost(norms.float()) == pytest.approx(99, rel=0.05)
    assert decades_lost(torch.tensor([0.0, 0.0, 1.0])) == math.inf
    assert decades_lost(torch.tensor([torch.nan, 1.0])) == 0.0


def test_the_lecture_in_one_table() -> None:
    """Over 100 steps from their usual start: sigmoid and tanh lose the gradient, a ReLU of large weights explodes."""
    inputs = torch.randn(4, 100, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lost = {}
    for kind in ("rnn_tanh", "rnn_sigmoid", "rnn_relu", "lstm"):
        torch.manual_seed(0)
        model = Recurrent(RecurrentConfig(kind=kind, hidden_size=16), input_size=FEATURES).double()
        if kind == "rnn_relu":
            with torch.no_grad():
                model.weight_hh_l0.mul_(2.0)
        norms = hidden_gradient_norms(model, inputs, None, loss=lambda outputs, _: outputs[:, -1].sum())
        lost[kind] = decades_lost(norms[0])
    assert lost["rnn_sigmoid"] > lost["rnn_tanh"] > lost["lstm"] > 0 > lost["rnn_relu"]

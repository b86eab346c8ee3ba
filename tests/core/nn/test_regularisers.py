"""Zoneout, locked dropout and weight drop: who is drawn, when, and that nothing else changes."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from core.nn import recurrent as recurrent_module
from core.nn.dropout import LockedDropout
from core.nn.recurrent import Recurrent, RecurrentConfig

FEATURES = 3


def build(**settings: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(RecurrentConfig(**{"kind": "lstm", "hidden_size": 64, **settings}), input_size=FEATURES)


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_zoneout_keeps_the_share_of_units_it_says(kind: str) -> None:
    """A kept unit is kept exactly, so the units that did not move are counted."""
    model = build(kind=kind, zoneout=0.3)
    before = model.initial_state(50)._replace(hidden=torch.full((1, 50, 64), 0.123))
    outputs, _ = model(torch.randn(50, 20, FEATURES), None, before)
    states = torch.cat([before.hidden[0].unsqueeze(1), outputs], dim=1)
    kept = (states[:, 1:] == states[:, :-1]).double().mean(dim=(0, 2))
    # A ReLU that stays at 0 has not moved either.
    assert (kept > 0.27).all()
    assert kind == "rnn_relu" or (kept < 0.33).all()


def test_zoneout_of_the_cell_state_leaves_the_output_gate_its_new_one() -> None:
    """Krueger et al., eq. 5: h(t) shows the new cell state even where the old one is carried on."""
    model = build(zoneout_cell=0.999999)
    before = model.initial_state(4)
    outputs, after = model(torch.randn(4, 1, FEATURES), None, before)
    assert torch.equal(after.cell, before.cell)
    assert (outputs != 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "lstm", "zoneout": 0.2, "zoneout_cell": 0.5, "layer_norm": True},
        {"kind": "gru", "zoneout": 0.2},
        {"kind": "gru", "reset": "before", "zoneout": 0.2, "weight_drop": 0.5},
    ],
    ids=str,
)
def test_the_recurrence_and_plain_operations_draw_and_give_the_same(settings: dict[str, Any]) -> None:
    model = build(**{"hidden_size": 5, "num_layers": 2, "dropout": 0.5, "locked_dropout": True, **settings}).double()
    inputs = torch.randn(4, 6, FEATURES, dtype=torch.float64)
    results = []
    for method in ("scan", "steps"):
        torch.manual_seed(3)
        with (
            mock.patch.object(recurrent_module, "choose_method", return_value=method),
            mock.patch.object(recurrent_module, "may_look_at", return_value=False),
        ):
            outputs, state = model(inputs, torch.tensor([6, 2, 0, 4]))
        loss = outputs.square().sum() + state.hidden.sum()
        results.append([outputs, *torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lengths", [None, torch.tensor([9, 4, 9, 1])])
@pytest.mark.parametrize("kind", ["lstm", "gru", "min_gru"])
def test_locked_dropout_drops_the_same_units_at_every_step(kind: str, lengths: Tensor | None) -> None:
    """Seen by a second layer that adds nothing (residual, weights of zero): its outputs are what was let through."""
    model = build(kind=kind, num_layers=2, dropout=0.5, locked_dropout=True, residual=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_l1"):
                parameter.zero_()
    outputs, _ = model(torch.randn(4, 9, FEATURES), lengths)
    shown, _ = model.eval()(torch.randn(4, 9, FEATURES), lengths)
    assert (shown[:, 0] != 0).all()
    masks = []
    for row, length in enumerate([9] * 4 if lengths is None else lengths.tolist()):
        zero = outputs[row, :length] == 0
        assert torch.equal(zero, zero[:1].expand_as(zero))
        masks.append(zero[0])
    dropped = torch.stack(masks).double().mean()
    assert 0.4 < dropped < 0.6
    assert not torch.equal(masks[0], masks[1])


def test_locked_dropout_as_a_module() -> None:
    inputs = torch.ones(3, 7, 100)
    layer = LockedDropout(0.2)
    outputs = layer(inputs)
    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
    assert set(outputs.unique().tolist()) == {0.0, 1.25}
    assert 0.1 < (outputs == 0).double().mean() < 0.3
    assert layer.eval()(inputs) is inputs
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\), got 1.0"):
        LockedDropout(1.0)


@pytest.mark.usefixtures("as_shipped")
def test_locked_dropout_refuses_what_it_cannot_drop() -> None:
    for wrong, message in (
        (torch.ones(3, 7), r"\(batch, time >= 1, features\), got \(3, 7\)"),
        (torch.ones(3, 7, 2, dtype=torch.int64), r"floating point, got torch\.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            LockedDropout(0.2)(wrong)


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru"])
def test_weight_drop_is_the_layer_with_those_weights_at_zero(kind: str) -> None:
    """One mask for the whole call: equal to a layer whose recurrent weights were multiplied by it."""
    model = build(kind=kind, hidden_size=16, weight_drop=0.4)
    inputs, lengths = torch.randn(4, 9, FEATURES), torch.tensor([9, 4, 1, 6])
    torch.manual_seed(5)
    outputs, _ = model(inputs, lengths)
    torch.manual_seed(5)
    mask = torch.nn.functional.dropout(torch.ones_like(model.weight_hh_l0), 0.4)
    plain = build(kind=kind, hidden_size=16)
    with torch.no_grad():
        plain.weight_hh_l0.mul_(mask)
    torch.testing.assert_close(outputs, plain(inputs, lengths)[0])
    outputs.sum().backward()
    assert torch.equal(model.weight_hh_l0.grad == 0, mask == 0)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(inputs, lengths)[0], plain(inputs, lengths)[0])

"""Recurrent layers in their surroundings: settings, bad input, precision, export and compilation."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.nn.cells import CELL_KINDS, RecurrentState
from core.nn.recurrent import Recurrent, RecurrentConfig

ROOT = Path(__file__).parents[3]


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "elman"}, "rnn_tanh, rnn_sigmoid, rnn_relu, lstm, gru, min_gru, min_lstm, got 'elman'"),
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"num_layers": 2, "dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": 0.1}, "dropout=0.1 does nothing with num_layers=1"),
        ({"residual": True}, "residual=true does nothing with num_layers=1"),
        ({"reset": "before"}, "reset='before' does nothing with kind='lstm'"),
        ({"kind": "gru", "reset": "never"}, "after, before, got 'never'"),
        ({"weight_drop": 1.0}, r"weight_drop must be in \[0, 1\), got 1.0"),
        ({"zoneout": -0.1}, r"zoneout must be in \[0, 1\), got -0.1"),
        ({"zoneout_cell": 1.5}, r"zoneout_cell must be in \[0, 1\), got 1.5"),
        ({"locked_dropout": True}, "locked_dropout=true does nothing with dropout=0"),
        ({"kind": "gru", "zoneout_cell": 0.1}, "zoneout_cell=0.1 does nothing with kind='gru'"),
        ({"kind": "rnn_tanh", "forget_bias": 2.0}, "forget_bias=2.0 does nothing with kind='rnn_tanh'"),
        ({"kind": "min_gru", "forget_bias": 2.0}, "forget_bias=2.0 does nothing with kind='min_gru'"),
        ({"forget_bias": float("inf")}, "forget_bias must be finite, got inf"),
        ({"kind": "rnn_tanh", "layer_norm": True}, "layer_norm=true is not defined for kind='rnn_tanh'"),
        ({"kind": "gru", "layer_norm": True, "reset": "before"}, "defined for reset='after' only"),
        ({"kind": "min_gru", "weight_drop": 0.1}, "weight_drop=0.1 cannot be had with kind='min_gru'"),
        ({"kind": "min_lstm", "zoneout": 0.1}, "zoneout=0.1 cannot be had with kind='min_lstm'"),
    ],
)
def test_settings_that_are_wrong_or_do_nothing_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentConfig(**{"kind": "lstm", "hidden_size": 4, **changed})


def lstm_state(**changed: Any) -> RecurrentState:
    parts = {"hidden": torch.zeros(1, 2, 4), "cell": torch.zeros(1, 2, 4), **changed}
    return RecurrentState(**parts)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"inputs": torch.zeros(2, 3)}, r"inputs must have shape \(batch, time >= 1, 5\), got \(2, 3\)"),
        ({"inputs": torch.zeros(2, 3, 6)}, r"got \(2, 3, 6\).*input_size=5"),
        ({"inputs": torch.zeros(2, 0, 5)}, r"got \(2, 0, 5\)"),
        ({"inputs": torch.zeros(2, 3, 5, dtype=torch.float64)}, r"inputs must be torch.float32 .* got torch.float64"),
        ({"inputs": torch.zeros(2, 3, 5, device="meta")}, "on cpu, as the weights are, got .* on meta"),
        ({"lengths": torch.tensor([1, 2, 3])}, r"lengths must have .* \(2,\), got \(3,\)"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be int64, got torch.float32"),
        ({"lengths": torch.tensor([3, 4])}, "lengths must be from 0 to the 3 steps of the batch, got 4 in row 1"),
        ({"lengths": torch.tensor([-1, 3])}, "lengths must be from 0 to the 3 steps of the batch, got -1 in row 0"),
        ({"state": lstm_state(cell=None)}, "state of a lstm has a cell state, got one without it"),
        ({"state": lstm_state(hidden=torch.zeros(1, 3, 4))}, r"state.hidden .* = \(1, 2, 4\), got \(1, 3, 4\)"),
        ({"state": lstm_state(cell=torch.zeros(2, 2, 4))}, r"state.cell .* = \(1, 2, 4\), got \(2, 2, 4\)"),
        (
            {"state": lstm_state(hidden=torch.zeros(1, 2, 4).double())},
            "state.hidden must be torch.float32 .* torch.float64",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4), input_size=5)
    arguments = {"inputs": torch.zeros(2, 3, 5), "lengths": torch.tensor([3, 1]), "state": None, **changed}
    with pytest.raises(ValueError, match=message):
        model(**arguments)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("state", [tuple(lstm_state()), torch.zeros(1, 2, 4)], ids=["(h, c)", "h"])
def test_the_state_of_a_layer_of_torch_is_refused_with_the_way_to_write_it(state: Any) -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4), input_size=5)
    with pytest.raises(TypeError, match=r"got (tuple|Tensor)\. \(h, c\) of torch.nn.LSTM is RecurrentState\(h, c\)"):
        model(torch.zeros(2, 3, 5), None, state)


def test_the_state_of_another_cell_is_refused() -> None:
    model = Recurrent(RecurrentConfig(kind="gru", hidden_size=4), input_size=5)
    with pytest.raises(ValueError, match="state of a gru has no cell state, got one with it"):
        model(torch.zeros(2, 3, 5), None, lstm_state())
    with pytest.raises(ValueError, match="input_size must be at least 1, got 0"):
        Recurrent(RecurrentConfig(kind="gru", hidden_size=4), input_size=0)


# Every cell, and what has a recurrence of its own.
VARIANTS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in CELL_KINDS),
    {"kind": "gru", "reset": "before"},
    {"kind": "gru", "layer_norm": True, "zoneout": 0.2},
    {"kind": "lstm", "layer_norm": True, "zoneout": 0.2, "zoneout_cell": 0.4, "weight_drop": 0.3},
]


@pytest.mark.parametrize("hidden_size", [8, 128])
def test_a_relu_network_stays_finite_in_float16(hidden_size: int) -> None:
    """What holds its state at zero in the padding must be a number there: infinity times the 0 of other steps is none."""
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(kind="rnn_relu", hidden_size=hidden_size), input_size=5)
    inputs, lengths = torch.randn(4, 9, 5), torch.tensor([9, 0, 1, 6])
    expected, _ = model(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.float16):
        outputs, state = model(inputs, lengths)
    torch.testing.assert_close(outputs.float(), expected, rtol=0.02, atol=0.02)
    (outputs.float().sum() + state.hidden.float().sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_bfloat16_by_autocast_is_near_float32(variant: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = RecurrentConfig(**{"hidden_size": 32, "num_layers": 2, "bidirectional": True, **variant})
    model = Recurrent(config, input_size=5).eval()
    inputs, lengths = torch.randn(4, 9, 5), torch.tensor([9, 0, 1, 6])
    outputs, state = model(inputs, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, carried = model(inputs, lengths)
        model(inputs, lengths, carried)
    assert (half.float() - outputs).norm() <= 0.02 * outputs.norm()
    if (
        not config.layer_norm
    ):  # where sums are nearly equal, they are divided by their small deviation, rounding and all
        torch.testing.assert_close(half.float(), outputs, rtol=0.05, atol=0.05)
        torch.testing.assert_close(carried.to(dtype=torch.float32), state, rtol=0.05, atol=0.05)
    half.float().square().sum().backward()
    in_half = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    outputs.square().sum().backward()
    for got, parameter in zip(in_half, model.parameters(), strict=True):
        assert (got - parameter.grad).norm() <= (0.1 if config.layer_norm else 0.05) * parameter.grad.norm()


COMPILED = f"""
import torch
from core.nn.recurrent import Recurrent, RecurrentConfig

for variant in {VARIANTS}:
    config = RecurrentConfig(**{{"hidden_size": 4, "bidirectional": True, **variant}})
    model = Recurrent(config, input_size=5).double().eval()
    torch.compiler.reset()  # so many cells through one forward are more than its limit of recompilations
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    inputs = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    for lengths in (torch.tensor([7, 0, 3]), None):
        (ours, our_state), (expected, state) = compiled(inputs, lengths), model(inputs, lengths)
        torch.testing.assert_close((ours, our_state), (expected, state), rtol=1e-12, atol=1e-12)
        gradients = [torch.autograd.grad(out.square().sum(), inputs)[0] for out in (ours, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
"""


@pytest.mark.processes
def test_compiled_without_a_graph_break_it_gives_the_same() -> None:
    """In a process without annotation checks, which a compiler cannot read."""
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    "variant",
    [
        # One direction and a second layer are no business of the cell's: an export takes seconds.
        *({"bidirectional": True, **variant} for variant in VARIANTS),
        {"kind": "gru", "bidirectional": True, "num_layers": 2},
        *({"kind": kind, "num_layers": 2} for kind in ("lstm", "gru", "min_gru")),
    ],
    ids=str,
)
def test_exported_it_runs_on_other_batches(variant: dict[str, Any]) -> None:
    """Any batch size and lengths; the number of steps is fixed, which padding makes up for."""
    config = RecurrentConfig(**{"hidden_size": 4, **variant})
    model = Recurrent(config, input_size=5).double()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        model.eval(),
        (torch.randn(3, 7, 5, dtype=torch.float64), torch.tensor([7, 2, 5])),
        dynamic_shapes={"inputs": {0: batch}, "lengths": {0: batch}},
    )
    inputs, lengths = torch.randn(6, 7, 5, dtype=torch.float64), torch.tensor([7, 1, 4, 0, 6, 7])
    torch.testing.assert_close(program.module()(inputs, lengths), model(inputs, lengths), rtol=1e-12, atol=1e-12)


def test_a_copy_is_a_model_of_its_own() -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4, learn_initial_state=True), input_size=5)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.initial_cell.fill_(1.0)
    inputs = torch.randn(2, 3, 5)
    assert not torch.equal(model(inputs, None)[0], other(inputs, None)[0])
    other.reset_parameters()
    assert not other.initial_cell.any()

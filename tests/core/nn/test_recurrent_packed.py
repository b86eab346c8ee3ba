"""Recurrent layers against `torch.nn`: over packed sequences, and over full ones."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.nn.cells import RecurrentState
from core.nn.recurrent import Recurrent, RecurrentConfig
from tests.core.nn.recurrent_cases import (
    FEATURES,
    LAYOUTS,
    Case,
    Recipe,
    assert_equal,
    ours,
    recipes,
    values_and_gradients,
)

TORCH_KINDS = ["rnn_tanh", "rnn_relu", "lstm", "gru"]


def torch_layer(model: Recurrent) -> nn.RNNBase:
    config = model.config
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(config.kind, nn.RNN)
    extra = {"nonlinearity": config.kind.removeprefix("rnn_")} if kind is nn.RNN else {}
    layer = kind(
        model.input_size,
        config.hidden_size,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        batch_first=True,
        **extra,
    )
    layer.to(model.weight_hh_l0.dtype).load_state_dict(model.state_dict())
    return layer


def packed(case: Case) -> dict[str, Tensor]:
    """`torch.nn` over a packed sequence, with gradients under our names."""
    layer = torch_layer(case.model)

    def run(inputs: Tensor) -> tuple[Tensor, RecurrentState]:
        state = None if case.state is None else case.state.hidden if case.state.cell is None else tuple(case.state)
        sequence = pack_padded_sequence(inputs, case.lengths, batch_first=True, enforce_sorted=False)
        outputs, last = layer(sequence, state)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        return outputs, RecurrentState(*last) if isinstance(last, tuple) else RecurrentState(last)

    return values_and_gradients(run, case._replace(model=layer))


@settings(deadline=None, max_examples=60)
@given(recipe=recipes(kinds=TORCH_KINDS, min_length=1, plain=True))
def test_equal_to_packed_sequences(recipe: Recipe) -> None:
    case = recipe.make()
    assert_equal(ours(case), packed(case))


@settings(deadline=None, max_examples=15)
@given(recipe=recipes(kinds=TORCH_KINDS, min_length=1, plain=True))
def test_equal_to_packed_sequences_in_the_fused_kernel(recipe: Recipe) -> None:
    """Float32 takes other paths than float64: oneDNN's LSTM, its flag column included, and oneDNN's products."""
    case = recipe.make(torch.float32)
    assert_equal(ours(case), packed(case), tolerance=2e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TORCH_KINDS)
def test_equal_to_packed_sequences_at_size(kind: str, layout: str) -> None:
    torch.manual_seed(0)
    config = RecurrentConfig(kind=kind, hidden_size=32, num_layers=2, bidirectional=True)
    lengths = torch.randint(1, 25, (12,))
    case = Case(Recurrent(config, input_size=20), torch.randn(12, 24, 20), lengths, None, layout)
    assert_equal(ours(case), packed(case), tolerance=1e-3)


@pytest.mark.parametrize("full", [None, "lengths"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", TORCH_KINDS)
def test_without_padding_it_is_torchs_layer(
    kind: str, bidirectional: bool, dtype: torch.dtype, full: str | None
) -> None:
    """With a `torch.nn` state dict loaded: names, shapes and order are the same. A fused LSTM is so bit for bit."""
    config = RecurrentConfig(kind=kind, hidden_size=5, num_layers=2, bidirectional=bidirectional)
    model = Recurrent(config, input_size=FEATURES).to(dtype)
    layer = torch_layer(model)
    assert list(model.state_dict()) == list(layer.state_dict())
    inputs = torch.randn(4, 6, FEATURES, dtype=dtype)
    outputs, state = model(inputs, None if full is None else torch.full((4,), 6))
    expected, last = layer(inputs)
    tolerance = 0.0 if kind == "lstm" and dtype == torch.float32 else 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)
    for got, wanted in zip(state, last if kind == "lstm" else (last, None), strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)

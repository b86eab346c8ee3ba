"""The feed-forward baseline."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.nn.feed_forward import FeedForward, FeedForwardConfig


@settings(deadline=None, max_examples=25)
@given(
    hidden_sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    activation=st.sampled_from(["relu", "tanh", "sigmoid", "gelu"]),
    dropout=st.sampled_from([0.0, 0.5]),
    layer_norm=st.booleans(),
    batch=st.sampled_from([(), (3,), (2, 3)]),
)
def test_the_stack_is_the_configured_one(
    hidden_sizes: list[int], activation: str, dropout: float, layer_norm: bool, batch: tuple[int, ...]
) -> None:
    config = FeedForwardConfig(hidden_sizes=hidden_sizes, activation=activation, dropout=dropout, layer_norm=layer_norm)
    network = FeedForward(config, input_size=4, output_size=2).double().eval()
    inputs = torch.randn(*batch, 4, dtype=torch.float64)
    expected = inputs
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [*hidden_sizes, 2]
    for layer in linears[:-1]:
        expected = layer(expected)
        if layer_norm:
            expected = nn.functional.layer_norm(expected, expected.shape[-1:])
        expected = getattr(nn.functional, activation)(expected)
    torch.testing.assert_close(network(inputs), linears[-1](expected))


def test_dropout_acts_in_training_alone() -> None:
    network = FeedForward(FeedForwardConfig(hidden_sizes=[64], dropout=0.5), input_size=4, output_size=2)
    inputs = torch.ones(3, 4)
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"hidden_sizes": []}, r"at least one layer .* got \[\]"),
        ({"hidden_sizes": [4, 0]}, r"at least one unit, got \[4, 0\]"),
        ({"hidden_sizes": [4], "activation": "swish"}, "relu, tanh, sigmoid, gelu, got 'swish'"),
        ({"hidden_sizes": [4], "dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeedForwardConfig(**settings_)


@pytest.mark.usefixtures("as_shipped")
def test_a_wrong_width_is_refused() -> None:
    config = FeedForwardConfig(hidden_sizes=[3])
    with pytest.raises(ValueError, match=r"4 features in their last axis, got shape \(2, 5\)"):
        FeedForward(config, input_size=4, output_size=2)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="at least 1, got 4 and 0"):
        FeedForward(config, input_size=4, output_size=0)

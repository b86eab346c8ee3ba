"""Pooling as a sequence comes gives what pooling it as a whole gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.nn.pooling import PoolingKind, build_pooling
from core.nn.running_pooling import pool_prefixes, pool_step

KINDS: tuple[PoolingKind, ...] = ("last", "mean", "max", "attention")


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(num_steps=st.integers(1, 6), scale=st.sampled_from([0.0, 1.0, 100.0]))
def test_every_prefix_is_pooled_as_a_sequence_of_its_own(kind: PoolingKind, num_steps: int, scale: float) -> None:
    """To 1e-12, also where scores are far apart."""
    torch.manual_seed(num_steps)
    pooling = build_pooling(kind, num_features=3, bidirectional=False).double()
    outputs = scale * torch.randn(2, num_steps, 3, dtype=torch.float64)
    found = pool_prefixes(pooling, outputs)
    for step in range(num_steps):
        expected = pooling(outputs, torch.tensor([step + 1, step + 1]))
        torch.testing.assert_close(found[:, step], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_whole(kind: PoolingKind) -> None:
    torch.manual_seed(0)
    pooling = build_pooling(kind, num_features=3, bidirectional=False).double()
    outputs = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(pool_prefixes(pooling, outputs)[:, -1].sin().sum(), outputs)[0]
    expected = torch.autograd.grad(pooling(outputs, torch.tensor([5, 5])).sin().sum(), outputs)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_cannot_be_pooled_as_it_comes_is_refused() -> None:
    output = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="reads a sequence from its end too"):
        pool_step(build_pooling("last", num_features=4, bidirectional=True), output, None)
    with pytest.raises(ValueError, match="Identity is no pooling"):
        pool_step(nn.Identity(), output, None)

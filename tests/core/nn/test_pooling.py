"""Pooling sees each sequence's valid steps and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.pooling import PoolingKind, build_pooling

KINDS: list[PoolingKind] = ["last", "mean", "max", "attention"]
lengths_lists = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@settings(deadline=None)
@given(
    lengths=lengths_lists,
    kind=st.sampled_from(KINDS),
    bidirectional=st.booleans(),
    junk=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30]),
)
def test_padding_never_reaches_a_value_or_a_gradient(
    lengths: list[int], kind: PoolingKind, bidirectional: bool, junk: float
) -> None:
    """Contract 1, against each sequence pooled alone without padding."""
    pooling = build_pooling(kind, num_features=4, bidirectional=bidirectional).double()
    outputs = torch.randn(len(lengths), 8, 4, dtype=torch.float64)
    for row, length in enumerate(lengths):
        outputs[row, length:] = junk
    outputs.requires_grad_()
    pooled = pooling(outputs, torch.tensor(lengths))
    weight = torch.randn_like(pooled)
    (pooled * weight).sum().backward()
    for row, length in enumerate(lengths):
        alone = outputs[row : row + 1, :length].detach().requires_grad_()
        expected = pooling(alone, torch.tensor([length]))
        torch.testing.assert_close(pooled[row : row + 1], expected, rtol=1e-12, atol=1e-12)
        (gradient,) = torch.autograd.grad((expected * weight[row]).sum(), alone)
        torch.testing.assert_close(outputs.grad[row, :length], gradient[0], rtol=1e-12, atol=1e-12)
        assert not outputs.grad[row, length:].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in pooling.parameters())


@settings(deadline=None)
@given(length=st.integers(1, 6))
def test_what_each_takes(length: int) -> None:
    outputs = torch.randn(1, 6, 4)
    lengths, valid = torch.tensor([length]), outputs[0, :length]
    forward = build_pooling("last", num_features=4, bidirectional=False)(outputs, lengths)[0]
    both = build_pooling("last", num_features=4, bidirectional=True)(outputs, lengths)[0]
    assert torch.equal(forward, valid[-1])
    assert torch.equal(both, torch.cat([valid[-1, :2], valid[0, 2:]]))
    mean = build_pooling("mean", num_features=4, bidirectional=False)(outputs, lengths)[0]
    torch.testing.assert_close(mean, valid.mean(0))
    largest = build_pooling("max", num_features=4, bidirectional=False)(outputs, lengths)[0]
    assert torch.equal(largest, valid.amax(0))
    attention = build_pooling("attention", num_features=4, bidirectional=False, num_hidden=5)
    weights = attention.score(valid).softmax(0)
    torch.testing.assert_close(attention(outputs, lengths)[0], (weights * valid).sum(0))


def test_a_setting_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="num_hidden=8 does nothing with pooling 'mean'"):
        build_pooling("mean", num_features=4, bidirectional=False, num_hidden=8)


@pytest.mark.usefixtures("as_shipped")
def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="last, mean, max, attention, got 'median'"):
        build_pooling("median", num_features=4, bidirectional=False)

"""Pooling sees each sequence's valid steps and nothing else."""

from typing import Any

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


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("kind", KINDS)
def test_input_that_does_not_fit_is_refused(kind: PoolingKind) -> None:
    pooling = build_pooling(kind, num_features=4, bidirectional=False)
    outputs, lengths = torch.zeros(2, 3, 4), torch.tensor([3, 1])
    for wrong, message in (
        ({"outputs": outputs[0]}, r"outputs must have shape \(batch, time, features\), got \(3, 4\)"),
        ({"outputs": outputs.long()}, "outputs must be floating point, got torch.int64"),
        ({"lengths": lengths + 1}, "to the 3 steps of the batch, got 4 in row 0"),
        ({"lengths": lengths.to("meta")}, "lengths must be on cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            pooling(**{"outputs": outputs, "lengths": lengths, **wrong})


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_sequence_without_a_step_has_no_mean(kind: PoolingKind) -> None:
    """It would be NaN, and say so nowhere; the last step of an empty sequence is defined, as zeros."""
    outputs, lengths = torch.ones(2, 3, 4), torch.tensor([3, 0])
    with pytest.raises(ValueError, match="lengths must be from 1 to the 3 steps of the batch, got 0 in row 1"):
        build_pooling(kind, num_features=4, bidirectional=False)(outputs, lengths)
    assert not build_pooling("last", num_features=4, bidirectional=False)(outputs, lengths)[1].any()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("attention", {}, r"outputs must have 4 features in their last axis, got shape \(2, 3, 5\)"),
        ("last", {"bidirectional": True}, r"a forward and a backward half, got shape \(2, 3, 5\)"),
        ("attention", {"num_features": 0}, "num_features and num_hidden must be at least 1, got 0 and 64"),
        ("attention", {"num_hidden": 0}, "must be at least 1, got 4 and 0"),
    ],
)
def test_widths_that_cannot_be_are_refused(kind: PoolingKind, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_pooling(kind, **{"num_features": 4, "bidirectional": False, **settings})(
            torch.zeros(2, 3, 5), torch.tensor([3, 1])
        )

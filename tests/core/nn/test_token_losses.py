"""Cross-entropy of tokens: parity with PyTorch's own, whatever the pieces, the padding and the precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import core.nn.token_losses
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, summed_loss
from core.nn.token_losses import cross_entropy, linear_cross_entropy

FEATURES, VOCABULARY = 5, 7


class Example:
    """A batch with junk in the padding."""

    def __init__(self, lengths: list[int], *, seed: int = 0, filler: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows, time = len(lengths), max(1, *lengths)
        self.mask = valid_steps(torch.tensor(lengths), time)
        self.features = torch.randn(rows, time, FEATURES, generator=generator, dtype=torch.float64)
        self.features[~self.mask] = torch.nan
        self.labels = torch.randint(VOCABULARY, (rows, time), generator=generator)
        self.labels[~self.mask] = -1
        self.weight = torch.ones(rows) if filler else None
        if self.weight is not None:
            self.weight[0] = 0.0
        self.output = nn.Linear(FEATURES, VOCABULARY, dtype=torch.float64)
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def reference(self, *, mean: MeanOver, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """Step by step, by `torch.nn.functional.cross_entropy`."""
        clean = self.features.masked_fill(~self.mask.unsqueeze(-1), 0.0)
        losses = F.cross_entropy(
            self.output(clean).flatten(0, 1),
            self.labels.clamp(min=0).flatten(),
            reduction="none",
            label_smoothing=label_smoothing,
        )
        return summed_loss(losses.view(self.mask.shape), mask=self.mask, mean=mean, weight=self.weight)

    def gradients(self, loss: Tensor, features: Tensor) -> list[Tensor]:
        """In features, weight and bias."""
        return list(torch.autograd.grad(3 * loss, [features, *self.output.parameters()]))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=2, max_size=5).filter(any),
    mean=st.sampled_from(["token", "sequence"]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    filler=st.booleans(),
    at_once=st.sampled_from([1, 3 * VOCABULARY, 1 << 20]),
)
def test_it_is_pytorchs_cross_entropy_in_any_pieces(
    lengths: list[int], mean: MeanOver, label_smoothing: float, filler: bool, at_once: int
) -> None:
    """Value, count and gradients, to 1e-12 in float64; NaN and label -1 stand in the padding."""
    example = Example(lengths, filler=filler)
    features = example.features.requires_grad_()
    expected = example.reference(mean=mean, label_smoothing=label_smoothing)
    arguments = {"mask": example.mask, "mean": mean, "weight": example.weight, "label_smoothing": label_smoothing}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.nn.token_losses, "_SCORES_AT_ONCE", at_once)
        ours = linear_cross_entropy(features, example.labels, output=example.output, **arguments)
    of_logits = cross_entropy(example.output(features), example.labels, **arguments)
    gradients = example.gradients(expected.sum, features)
    for loss in (ours, of_logits):
        torch.testing.assert_close(loss.sum, expected.sum, rtol=0, atol=1e-12)
        torch.testing.assert_close(loss.count, expected.count.to(loss.count.dtype), rtol=0, atol=0)
    for found, right in zip(example.gradients(ours.sum, features), gradients, strict=True):
        torch.testing.assert_close(found, right.masked_fill(right.isnan(), 0.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("has_bias", [True, False])
def test_impossible_words_are_as_if_they_were_not_in_the_vocabulary(has_bias: bool) -> None:
    """Value and gradients of the others, and gradients of exactly 0 of theirs."""
    example = Example([3, 0, 4])
    if not has_bias:
        example.output.bias = None
    features = example.features.requires_grad_()
    kept = [row for row in range(VOCABULARY) if row not in (0, 2)]
    small = nn.Linear(FEATURES, len(kept), bias=has_bias, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(small.parameters(), example.output.parameters(), strict=True):
            ours.copy_(theirs[kept])
    labels = example.labels % len(kept)
    arguments = {"mask": example.mask, "mean": "token"}
    whole = linear_cross_entropy(
        features, torch.tensor(kept)[labels], output=example.output, impossible=[0, 2], **arguments
    )
    expected = linear_cross_entropy(features, labels, output=small, **arguments)
    torch.testing.assert_close(whole.sum, expected.sum, rtol=0, atol=1e-12)
    found = torch.autograd.grad(whole.sum, [features, *example.output.parameters()])
    right = torch.autograd.grad(expected.sum, [features, *small.parameters()])
    torch.testing.assert_close(found[0], right[0], rtol=0, atol=1e-12)
    for ours, theirs in zip(found[1:], right[1:], strict=True):
        torch.testing.assert_close(ours[kept], theirs, rtol=0, atol=1e-12)
        assert not ours[[0, 2]].any()


def test_gradients_are_those_of_finite_differences() -> None:
    example = Example([3, 1, 4])
    labels, mask = example.labels, example.mask

    def loss(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        output = nn.Linear(FEATURES, VOCABULARY, dtype=torch.float64)
        del output.weight, output.bias
        output.weight, output.bias = weight, bias
        return linear_cross_entropy(features, labels, output=output, mask=mask, mean="token", label_smoothing=0.1).sum

    inputs = example.features.nan_to_num().requires_grad_(), *(p for p in example.output.parameters())
    assert torch.autograd.gradcheck(loss, inputs)


def test_bfloat16_by_autocast_is_near_float32() -> None:
    """Only products are rounded: 0.4 % each, over five terms and a mean."""
    example = Example([6, 4])
    output = example.output.float()
    features = example.features.float().requires_grad_()
    arguments = {"output": output, "mask": example.mask, "mean": "token"}
    exact = linear_cross_entropy(features, example.labels, **arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = linear_cross_entropy(features, example.labels, **arguments)
    assert rounded.sum.dtype == torch.float32
    torch.testing.assert_close(rounded.sum, exact.sum, rtol=0.02, atol=0)
    for found, right in zip(
        example.gradients(rounded.sum, features), example.gradients(exact.sum, features), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=0.05, atol=0.05)


def test_nothing_counted_gives_zero_and_zero_gradients() -> None:
    """A filler of a process that has run out of examples."""
    example = Example([2, 2])
    features = example.features.requires_grad_()
    loss = linear_cross_entropy(
        features, example.labels, output=example.output, mask=example.mask, mean="token", weight=torch.zeros(2)
    )
    assert not loss.sum.any()
    assert not loss.count.any()
    assert all(not gradient.any() for gradient in example.gradients(loss.sum, features))


@pytest.mark.usefixtures("as_shipped")
def test_what_does_not_fit_is_refused() -> None:
    example = Example([2, 2])
    arguments = {"output": example.output, "mean": "token"}
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got 1.0"):
        linear_cross_entropy(example.features, example.labels, mask=example.mask, label_smoothing=1.0, **arguments)
    with pytest.raises(ValueError, match=r"label_smoothing=0.1 gives every word a share .* words \[1\] are impossible"):
        linear_cross_entropy(
            example.features, example.labels, mask=example.mask, label_smoothing=0.1, impossible=[1], **arguments
        )
    with pytest.raises(ValueError, match=r"same rows and steps, got shapes \(2, 2, 5\), \(2, 2\) and \(2, 3\)"):
        linear_cross_entropy(example.features, example.labels, mask=torch.ones(2, 3).bool(), **arguments)

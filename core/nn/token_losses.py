"""Cross-entropy of tokens as a sum and a count (notes N4), the output layer and the loss in one.

The scores of a vocabulary are by far the largest tensors of a decoder. Here they are made for some tokens at a time, turned
into gradients where they lie, and given up: memory does not grow with the number of tokens, and no pass over them is
made for the padding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from core.nn.losses import MeanOver, SummedLoss, summed_loss
from core.nn.recurrence.first_derivatives import first_derivatives_only
from core.nn.recurrence.precision import is_autocast
from core.nn.recurrence.products import add_weight_gradient, linear, product

# Scores made at once: 16 MB in float32, which a third-level cache holds, and enough rows for products at full speed.
_SCORES_AT_ONCE = 1 << 22


def linear_cross_entropy(
    features: Float[Tensor, "rows time features"],
    labels: Int[Tensor, "rows time"],
    *,
    output: torch.nn.Linear,
    mask: Bool[Tensor, "rows time"],
    mean: MeanOver,
    weight: Float[Tensor, "rows"] | None = None,
    label_smoothing: float = 0.0,
    impossible: Sequence[int] = (),
) -> SummedLoss:
    """Cross-entropy of the scores `output(features)`, which are never held as a whole. First derivatives only.

    The target of a token is 1 - label_smoothing for its label and label_smoothing / V for every word of the vocabulary
    (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7).

    Args:
        features: what the output layer reads.
        labels: int64, the right token of each step.
        output: the output layer.
        mask: True where a step counts; what stands elsewhere is not read.
        mean: which mean `sum / count` is (`core.nn.losses.summed_loss`).
        weight: per row, 1 for a real example and 0 for a filler; None where all are real.
        label_smoothing: share of the target that is spread over the vocabulary, in [0, 1).
        impossible: words of probability 0, among which the others share theirs; no label is one of them.

    Raises:
        ValueError: if shapes do not fit, label_smoothing is out of range, or it would spread a target over `impossible` words.
    """
    check_label_smoothing(label_smoothing)
    if impossible and label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing} gives every word a share of the target, but the words {list(impossible)} "
            "are impossible. Set one of the two to nothing."
        )
    if features.shape[:2] != labels.shape or mask.shape != labels.shape:
        raise ValueError(
            "features, labels and mask must have the same rows and steps, got shapes "
            f"{tuple(features.shape)}, {tuple(labels.shape)} and {tuple(mask.shape)}."
        )
    if weight is not None:
        mask = mask & (weight != 0).unsqueeze(1)
    # The count and each token's share come from the one rule that every loss follows.
    ones = torch.ones(mask.shape, dtype=torch.promote_types(features.dtype, torch.float32), device=mask.device)
    count = summed_loss(ones, mask=mask, mean=mean, weight=weight).count
    shares = None
    if mean == "sequence" or weight is not None:
        per_row = ones[:, 0] if weight is None else weight.to(ones.dtype)
        if mean == "sequence":
            per_row = per_row / mask.sum(1).clamp(min=1)
        shares = per_row.unsqueeze(1).expand_as(mask)[mask]
    bias: Tensor | None = output.bias
    if impossible:
        # exp(-inf) is an exact 0, in the softmax as in its gradient.
        bias = output.weight.new_zeros(len(output.weight)) if bias is None else bias
        bias = bias.index_fill(0, torch.tensor(impossible, device=bias.device), -torch.inf)
    total: Tensor = _LinearCrossEntropy.apply(
        features[mask], output.weight, bias, labels[mask], shares, label_smoothing
    )
    return SummedLoss(total, count)


def cross_entropy(
    logits: Float[Tensor, "rows time vocabulary"],
    labels: Int[Tensor, "rows time"],
    *,
    mask: Bool[Tensor, "rows time"],
    mean: MeanOver,
    weight: Float[Tensor, "rows"] | None = None,
    label_smoothing: float = 0.0,
) -> SummedLoss:
    """The same of scores that are there already."""
    check_label_smoothing(label_smoothing)
    losses = logits.new_zeros(labels.shape, dtype=torch.promote_types(logits.dtype, torch.float32))
    found = F.cross_entropy(
        logits[mask].to(losses.dtype), labels[mask], reduction="none", label_smoothing=label_smoothing
    )
    return summed_loss(losses.masked_scatter(mask, found), mask=mask, mean=mean, weight=weight)


def check_label_smoothing(label_smoothing: float) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: saying what was got.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")


class _LinearCrossEntropy(torch.autograd.Function):
    """The weighted sum of the losses of (tokens, features); gradients are made with it, for the scores are not kept."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        shares: Tensor | None,
        label_smoothing: float,
    ) -> Tensor:
        half = torch.get_autocast_dtype(features.device.type) if is_autocast(features.device) else features.dtype
        exact = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            rounded_weight = weight.to(half)
            rounded_bias = None if bias is None else bias.to(half)
            wants_gradients = any(ctx.needs_input_grad[:3])
            grad_features = torch.empty_like(features) if wants_gradients else None
            # Transposed, as `weight_gradient` makes it.
            grad_weight = weight.new_zeros(weight.shape[1], weight.shape[0]) if wants_gradients else None
            grad_bias = weight.new_zeros(weight.shape[0]) if wants_gradients and bias is not None else None
            total = torch.zeros((), dtype=exact, device=features.device)
            at_once = max(1, _SCORES_AT_ONCE // weight.shape[0])
            for start in range(0, features.shape[0], at_once):
                rows = slice(start, start + at_once)
                read, right = features[rows].to(half), labels[rows].unsqueeze(1)
                share = None if shares is None else shares[rows].to(exact)
                scores = linear(read, rounded_weight, rounded_bias).to(exact)
                grad = scores.softmax(dim=1)
                # log sum exp, exactly: of the largest score the probability is at least 1 / V. A pass over probabilities costs
                # half of one that takes logarithms, and they are what the gradient is made of.
                normaliser = scores.amax(1) - grad.amax(1).log()
                losses = normaliser - (1.0 - label_smoothing) * scores.gather(1, right).squeeze(1)
                if label_smoothing:
                    losses = losses - label_smoothing * scores.mean(1)
                total += losses.sum() if share is None else torch.dot(losses, share)
                if not wants_gradients:
                    continue
                if label_smoothing:
                    grad.sub_(label_smoothing / weight.shape[0])
                grad.scatter_add_(1, right, grad.new_full((1, 1), label_smoothing - 1.0).expand_as(right))
                if share is not None:
                    grad.mul_(share.unsqueeze(1))
                assert grad_features is not None
                assert grad_weight is not None
                grad_features[rows] = product(grad, weight.to(exact), dtype=half)
                add_weight_gradient(grad_weight, grad, read.to(exact), dtype=half)
                if grad_bias is not None:
                    grad_bias += grad.sum(0)
        ctx.save_for_backward(grad_features, grad_weight, grad_bias)
        return total

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_features, grad_weight, grad_bias = ctx.saved_tensors

        def scaled(gradient: Tensor | None) -> Tensor | None:
            return None if gradient is None else gradient * grad.to(gradient.dtype)

        weight = scaled(grad_weight)
        return scaled(grad_features), None if weight is None else weight.t(), scaled(grad_bias), None, None, None

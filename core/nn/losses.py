"""Losses over padded sequences, as a sum and a count (notes N4).

An optimiser step may see a batch in pieces - accumulated, or on several processes. Sums and counts add up to the same
mean whatever the pieces; means of means do not. Elementwise losses take the mask first, so that a target that is
missing or padding (NaN included) reaches neither the value nor a gradient; `summed_loss` then reduces them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

MeanOver = Literal["token", "sequence"]


class SummedLoss(NamedTuple):
    """A loss before its mean is taken: the mean is `sum / count`, over all pieces of a global batch together."""

    sum: Float[Tensor, ""]
    count: Float[Tensor, ""]  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a loss


def summed_loss(
    loss: Float[Tensor, "batch *steps"],
    *,
    mask: Bool[Tensor, "batch *steps"],
    mean: MeanOver,
    weight: Float[Tensor, "batch"] | None = None,
) -> SummedLoss:
    """Reduce an elementwise loss to its sum and count, in at least float32.

    `token`: J = sum_i sum_t L / sum_i m_i, every valid element weighs the same.
    `sequence`: J = 1/n sum_i 1/m_i sum_t L, every sequence weighs the same (notes N4, the lecture's cost); n counts
    sequences with a valid element.

    Args:
        loss: elementwise loss; what stands where not `mask` is not read.
        mask: True where an element counts.
        mean: which mean `sum / count` is.
        weight: per example, 1 for a real one and 0 for a filler; None where all are real.

    Raises:
        ValueError: if shapes or devices differ, `loss` or `mask` is of another kind of number, or `mean` is unknown.
    """
    if mean not in get_args(MeanOver):
        raise ValueError(f"mean must be one of {', '.join(get_args(MeanOver))}, got {mean!r}.")
    if not loss.is_floating_point():
        raise ValueError(f"loss must be floating point, got {loss.dtype}.")
    _check_mask(mask, of=loss, name="loss")
    if weight is not None and weight.shape != loss.shape[:1]:
        raise ValueError(
            f"weight must have one entry per example, shape ({loss.shape[0]},), got {tuple(weight.shape)}."
        )
    if weight is not None:
        _check_same_device(weight, name="weight", of=loss, of_name="loss")
    if loss.dtype in (torch.bfloat16, torch.float16):
        loss = loss.float()
    if weight is not None:
        # A filler's loss may be anything, NaN too: it leaves by the mask, not by a product with 0.
        mask = mask & (weight != 0).reshape(-1, *[1] * (mask.ndim - 1))
    per_example = loss.masked_fill(~mask, 0.0).flatten(1).sum(1) if loss.ndim > 1 else loss.masked_fill(~mask, 0.0)
    num_valid = mask.flatten(1).sum(1) if mask.ndim > 1 else mask.long()
    num_valid = num_valid.to(loss.dtype)
    if mean == "sequence":
        per_example = per_example / num_valid.clamp(min=1)
        num_valid = (num_valid > 0).to(loss.dtype)
    if weight is not None:
        weight = weight.to(loss.dtype)
        per_example, num_valid = per_example * weight, num_valid * weight
    return SummedLoss(per_example.sum(), num_valid.sum())


def squared_error(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], *, mask: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """(y - y^)^2; 0 where not `mask`."""
    return _masked_residual(prediction, target, mask).square()


def absolute_error(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], *, mask: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """|y - y^|; 0 where not `mask`."""
    return _masked_residual(prediction, target, mask).abs()


def huber_error(
    prediction: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    mask: Bool[Tensor, "*shape"],
    delta: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Half the squared residual up to `delta` (in units of the target), linear beyond; 0 where not `mask`.

    Source: Huber, "Robust Estimation of a Location Parameter", 1964.

    Raises:
        ValueError: if `delta` is not positive.
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}.")
    residual = _masked_residual(prediction, target, mask)
    return F.huber_loss(residual, torch.zeros_like(residual), reduction="none", delta=delta)


def pinball_error(
    prediction: Float[Tensor, "*shape quantiles"],
    target: Float[Tensor, "*shape"],
    *,
    mask: Bool[Tensor, "*shape"],
    levels: Sequence[float],
) -> Float[Tensor, "*shape"]:
    """Quantile loss max(q r, (q - 1) r) of the residual r = y - y^, its mean over the levels; 0 where not `mask`.

    Its minimiser is the q-quantile of the target. Source: Koenker & Bassett, "Regression Quantiles", Econometrica 1978.

    Args:
        prediction: one value per level, in the order of `levels`.
        target: observed values.
        mask: True where a target counts.
        levels: quantile levels, each in (0, 1).

    Raises:
        ValueError: if a level is outside (0, 1), or the shapes do not fit.
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"quantile levels must lie in (0, 1) and be at least one, got {list(levels)}.")
    if prediction.shape[-1] != len(levels):
        raise ValueError(
            f"prediction must have one value for each of the {len(levels)} levels in its last axis, got "
            f"{tuple(prediction.shape)}."
        )
    _check_same_shape(target, name="target", other=prediction[..., 0], other_name="prediction without its last axis")
    _check_mask(mask, of=prediction[..., 0], name="prediction without its last axis")
    residual = _masked_residual(
        prediction, target.unsqueeze(-1).expand_as(prediction), mask.unsqueeze(-1).expand_as(prediction)
    )
    level = residual.new_tensor(levels)
    return torch.maximum(level * residual, (level - 1) * residual).mean(-1)


def _masked_residual(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    _check_same_shape(prediction, name="prediction", other=target, other_name="target")
    _check_same_device(target, name="target", of=prediction, of_name="prediction")
    _check_mask(mask, of=prediction, name="prediction")
    # Before the arithmetic: a zero gradient times a NaN residual is NaN again.
    return (target - prediction).masked_fill(~mask, 0.0)


def _check_mask(mask: Tensor, *, of: Tensor, name: str) -> None:
    _check_same_shape(of, name=name, other=mask, other_name="mask")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, True where valid, got {mask.dtype}.")
    _check_same_device(mask, name="mask", of=of, of_name=name)


def _check_same_device(tensor: Tensor, *, name: str, of: Tensor, of_name: str) -> None:
    if tensor.device != of.device:
        raise ValueError(f"{name} must be on {of.device}, where {of_name} is, got {tensor.device}.")


def _check_same_shape(tensor: Tensor, *, name: str, other: Tensor, other_name: str) -> None:
    if tensor.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape, got {tuple(tensor.shape)} and {tuple(other.shape)}. "
            "Nothing is broadcast here."
        )

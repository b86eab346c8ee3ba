"""Forecast metrics as sums and counts, so that they are exact over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from core.nn.losses import SummedLoss, absolute_error, pinball_error, squared_error, summed_loss


def forecast_metrics(
    mean: Float[Tensor, "batch horizon"],
    *,
    median: Float[Tensor, "batch horizon"],
    quantiles: Float[Tensor, "batch horizon levels"] | None,
    levels: Sequence[float],
    target: Float[Tensor, "batch horizon"],
    counted: Bool[Tensor, "batch horizon"],
    seasonal_error: Float[Tensor, "batch"],
) -> dict[str, SummedLoss]:
    """Metrics of one batch, all in the units of `target`.

    - `mse` of the mean, `mae` of the median, over all counted steps.
    - `smape`: 200 |y - f| / (|y| + |f|), in percent (Makridakis et al., "The M4 Competition", 2020, eq. 1).
    - `mase`: absolute error in units of the seasonal naive's error on the training part (Hyndman & Koehler 2006);
      series without such a unit are left out of it.
    - `wql`: twice the pinball loss summed over all steps, divided by the sum of |y|, mean over the levels (Salinas et al.
      2020, section 4). Without quantiles the median stands for each level, and it is the normalised absolute error.
    - `coverage80`: share of steps between the quantiles 0.1 and 0.9, where both are forecast.

    Args:
        mean: forecast for squared error.
        median: forecast for absolute error.
        quantiles: forecast at each level.
        levels: the levels.
        target: what came.
        counted: known steps of examples that are no fillers.
        seasonal_error: of each window's series, in the same units; NaN where undefined.
    """
    error = absolute_error(median, target, mask=counted)
    total = target.abs() + median.abs()
    has_unit = seasonal_error.isfinite()
    unit = torch.where(has_unit, seasonal_error, 1.0).unsqueeze(1)
    metrics = {
        "mse": summed_loss(squared_error(mean, target, mask=counted), mask=counted, mean="token"),
        "mae": summed_loss(error, mask=counted, mean="token"),
        # Where forecast and value are both 0 the forecast is right.
        "smape": summed_loss(torch.where(total > 0, 200 * error / total, 0.0), mask=counted, mean="token"),
        "mase": summed_loss(error / unit, mask=counted & has_unit.unsqueeze(1), mean="token"),
    }
    magnitude = target.abs().masked_fill(~counted, 0.0).sum()
    if quantiles is None:
        metrics["wql"] = SummedLoss(error.sum(), magnitude)
        return metrics
    metrics["wql"] = SummedLoss(2 * pinball_error(quantiles, target, mask=counted, levels=levels).sum(), magnitude)
    if 0.1 in levels and 0.9 in levels:
        low, high = quantiles[..., list(levels).index(0.1)], quantiles[..., list(levels).index(0.9)]
        inside = ((low <= target) & (target <= high)).to(target.dtype)
        metrics["coverage80"] = summed_loss(inside, mask=counted, mean="token")
    return metrics

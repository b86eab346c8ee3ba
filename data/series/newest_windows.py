"""The windows at the end of new data, from which a checkpoint forecasts what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from data.module import notify
from data.panels.panel import Panel
from data.series.calendar_features import calendar_features
from data.series.forecast_windows import ForecastBatch, ScaledPanel
from data.series.windows import fit_standard_scaling, gather_windows


def newest_windows(
    panel: Panel,
    preprocessing: Mapping[str, Any],
    *,
    scaling: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
    chunk: int = 1024,
) -> list[ForecastBatch]:
    """The last window of each series of a panel, whose forecast begins after the panel ends.

    Args:
        panel: new data of the same frequency.
        preprocessing: of the checkpoint that forecasts.
        scaling: mean and scale of each series; None: `series_scaling`.
        chunk: windows a batch.

    Raises:
        ValueError: for another frequency, or a series with too little history.
    """
    if panel.frequency != preprocessing["frequency"]:
        raise ValueError(
            f"The checkpoint forecasts series of frequency '{preprocessing['frequency']}', but the input's is "
            f"'{panel.frequency}'."
        )
    context, horizon = preprocessing["context"], preprocessing["horizon"]
    needed = preprocessing["min_context"] or context
    short = [name for name, length in zip(panel.series_ids, panel.lengths, strict=True) if length < needed]
    if short:
        raise ValueError(
            f"{len(short)} of {panel.num_series} series are shorter than the {needed} steps of history that the "
            f"checkpoint needs: {', '.join(short[:5])}. Leave them out or give more history."
        )
    mean, scale = series_scaling(panel, preprocessing) if scaling is None else scaling
    known = {name: position for position, name in enumerate(preprocessing["series_ids"])}
    scaled = ScaledPanel.of(panel, mean=mean, scale=scale, calendar=preprocessing["calendar"])
    batches = []
    for start in range(0, panel.num_series, chunk):
        rows = np.arange(start, min(start + chunk, panel.num_series))
        lengths = np.minimum(panel.lengths[rows], context)
        begins = panel.offsets[rows + 1] - lengths
        window = gather_windows(scaled.values, begins, lengths, size=int(lengths.max()))
        steps = np.minimum(begins[:, None] + np.arange(int(lengths.max())), len(scaled.dates) - 1)
        future = np.stack([panel.future_timestamps(int(row), horizon) for row in rows])
        zeros = torch.zeros(len(rows), horizon)
        batches.append(
            ForecastBatch(
                context=torch.from_numpy(window.values),
                observed=torch.from_numpy(window.observed),
                lengths=torch.from_numpy(lengths),
                calendar=torch.from_numpy(scaled.calendar[scaled.dates[steps]]),
                future_calendar=torch.from_numpy(calendar_features(future, preprocessing["calendar"])),
                target=zeros,
                target_observed=zeros.bool(),
                seasonal_naive=torch.from_numpy(
                    scaled.seasonal_naive(
                        rows, panel.lengths[rows], horizon=horizon, season=preprocessing["season_length"]
                    )
                ),
                series=torch.tensor([known.get(panel.series_ids[row], -1) for row in rows]),
                example=torch.from_numpy(rows),
                weight=torch.ones(len(rows)),
            )
        )
    return batches


def series_scaling(
    panel: Panel, preprocessing: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and scale of each series: of its training part, or for a series unseen in training of the data given."""
    mean, scale = np.zeros(panel.num_series), np.ones(panel.num_series)
    if preprocessing["scaling"] == "none":
        return mean, scale
    known = {name: position for position, name in enumerate(preprocessing["series_ids"])}
    unseen = [name for name in panel.series_ids if name not in known]
    if unseen:
        notify(f"{len(unseen)} series unseen in training are scaled by their own history: {unseen[:5]}")
        mean, scale = fit_standard_scaling(panel, panel.lengths, notify=notify)
    for row, name in enumerate(panel.series_ids):
        if name in known:
            mean[row] = float(preprocessing["mean"][known[name]])
            scale[row] = float(preprocessing["scale"][known[name]])
    return mean, scale

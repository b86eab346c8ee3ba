"""What the tests of the forecasting application share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from data.forecasting import seasonal_error
from data.panels.frequency import parse_frequency, steps_after
from data.panels.panel import Panel


def _make_panel(
    lengths: list[int], *, frequency: str = "D", begin: str = "2023-01-01", missing: float = 0.0, seed: int = 0
) -> Panel:
    generator = np.random.default_rng(seed)
    parsed = parse_frequency(frequency)
    values, timestamps = [], []
    for number, length in enumerate(lengths):
        steps = steps_after(np.datetime64(begin, "s"), parsed, num_steps=length + number)[number:]
        level = 10.0 * (number + 1)
        series = level + 3 * np.sin(np.arange(length) * 0.9) + generator.normal(size=length)
        series[generator.random(length) < missing] = np.nan
        values.append(series)
        timestamps.append(steps)
    return Panel(
        series_ids=[f"series {number}" for number in range(len(lengths))],
        values=np.concatenate(values),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=np.concatenate(timestamps),
        frequency=frequency,
    )


def _preprocessing(panel: Panel, **changes: Any) -> dict[str, Any]:
    season = changes.get("season_length", 3)
    plain = {
        "context": 8,
        "horizon": 4,
        "min_context": None,
        "frequency": panel.frequency,
        "calendar": [],
        "series_ids": panel.series_ids,
        "season_length": season,
        "scaling": "standard",
        "mean": torch.tensor([float(np.nanmean(panel.series(i))) for i in range(panel.num_series)]).double(),
        "scale": torch.tensor([float(np.nanstd(panel.series(i))) for i in range(panel.num_series)]).double(),
        "seasonal_error": torch.from_numpy(seasonal_error(panel, panel.lengths, season=season)),
        "has_missing": False,
        "file": {},
    }
    return {**plain, **changes}


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., Panel]:
    """`make_panel(lengths, frequency=..., missing=share)`: noisy waves, the series beginning a step after each other."""
    return _make_panel


@pytest.fixture(scope="session")
def preprocessing_of() -> Callable[..., dict[str, Any]]:
    """`preprocessing_of(panel, **changes)`: what a checkpoint of a network trained on the panel would hold."""
    return _preprocessing

"""Metrics against plain numpy, step by step over random panels with missing values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.forecasting.heads import HeadConfig, Point, Quantiles
from apps.forecasting.metrics import forecast_metrics
from apps.forecasting.module import NAIVE, ForecastingModule
from apps.forecasting.network import Direct
from core.nn.recurrent import RecurrentConfig
from data.batching import Piece
from data.forecasting import ForecastBatch, ForecastingData
from data.panels.panel import Panel

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=60)


class Steps(NamedTuple):
    """What was forecast and what came, one entry a counted step."""

    target: list[float]
    mean: list[float]
    median: list[float]
    quantiles: list[list[float]]
    unit: list[float]


def plain_metrics(steps: Steps, levels: list[float]) -> dict[str, float]:
    """The formulas as their papers have them, over all steps together."""
    y, mean, median, unit = (np.array(part) for part in (steps.target, steps.mean, steps.median, steps.unit))
    both = np.abs(y) + np.abs(median)
    error = np.abs(y - median)
    metrics = {
        "mse": np.mean((y - mean) ** 2),
        "mae": np.mean(error),
        "smape": np.mean([200 * e / b if b else 0.0 for e, b in zip(error, both, strict=True)]),
        "mase": np.mean(error[~np.isnan(unit)] / unit[~np.isnan(unit)]) if (~np.isnan(unit)).any() else np.nan,
    }
    if not levels:
        return {**metrics, "wql": error.sum() / np.abs(y).sum()}
    quantiles = np.array(steps.quantiles)
    weighted = [
        2 * np.sum(np.abs((quantiles[:, k] - y) * ((y <= quantiles[:, k]) - level))) / np.abs(y).sum()
        for k, level in enumerate(levels)
    ]
    metrics["wql"] = np.mean(weighted)
    if 0.1 in levels and 0.9 in levels:
        low, high = quantiles[:, levels.index(0.1)], quantiles[:, levels.index(0.9)]
        metrics["coverage80"] = np.mean((low <= y) & (y <= high))
    return {name: float(value) for name, value in metrics.items()}


def means(sums: dict[str, Any]) -> dict[str, float]:
    return {name: float(value.sum / value.count) for name, value in sums.items()}


@patient
@given(
    seed=st.integers(0, 10_000),
    num_windows=st.integers(1, 5),
    horizon=st.integers(1, 6),
    levels=st.sampled_from([[], [0.5], [0.1, 0.5, 0.9], [0.05, 0.1, 0.3, 0.5, 0.9]]),
    missing=st.sampled_from([0.0, 0.3, 0.7]),
)
def test_metrics_are_those_of_the_papers(
    seed: int, num_windows: int, horizon: int, levels: list[float], missing: float
) -> None:
    """Missing values hold junk, some series have no MASE unit, some values and forecasts are exactly 0."""
    generator = np.random.default_rng(seed)
    shape = (num_windows, horizon)
    target, mean, median = (generator.integers(-3, 4, shape) * 1.5 for _ in range(3))
    quantiles = np.sort(generator.integers(-4, 5, (*shape, len(levels))), axis=-1) * 1.0
    counted = generator.random(shape) >= missing
    counted[0, 0] = True
    target[0, 0] = 2.0  # some magnitude, or there is nothing to divide by
    unit = np.where(generator.random(num_windows) < 0.3, np.nan, generator.random(num_windows) + 0.5)
    rows, columns = np.nonzero(counted)
    steps = Steps(
        target[counted].tolist(),
        mean[counted].tolist(),
        median[counted].tolist(),
        quantiles[rows, columns].tolist(),
        unit[rows].tolist(),
    )
    ours = forecast_metrics(
        torch.from_numpy(mean),
        median=torch.from_numpy(median),
        quantiles=torch.from_numpy(quantiles) if levels else None,
        levels=levels,
        target=torch.from_numpy(np.where(counted, target, np.nan)),
        counted=torch.from_numpy(counted),
        seasonal_error=torch.from_numpy(unit),
    )
    assert means(ours) == pytest.approx(plain_metrics(steps, levels), rel=1e-10, nan_ok=True)


def test_a_batch_without_a_counted_step_adds_nothing() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    values = torch.full((2, 3), torch.nan)
    metrics = forecast_metrics(
        torch.ones(2, 3),
        median=torch.ones(2, 3),
        quantiles=torch.ones(2, 3, 3),
        levels=[0.1, 0.5, 0.9],
        target=values,
        counted=nothing,
        seasonal_error=torch.tensor([1.0, torch.nan]),
    )
    for name, value in metrics.items():
        assert float(value.sum) == float(value.count) == 0, name


# Through the module: scaled inside, measured in the units asked for ---------------------------------------------------


def write_csv(panel: Panel, path: Any) -> str:
    lines = ["unique_id,ds,y"]
    for i in range(panel.num_series):
        for date, value in zip(panel.series_timestamps(i), panel.series(i), strict=True):
            lines.append(f"{panel.series_ids[i]},{str(date)[:10]},{'' if np.isnan(value) else repr(float(value))}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("metrics_in", ["file", "scaled"])
@pytest.mark.parametrize("head", [Point(), Quantiles([0.1, 0.5, 0.9])], ids=["point", "quantiles"])
def test_a_module_measures_in_the_units_asked_for(
    metrics_in: str, head: HeadConfig, make_panel: Callable[..., Panel], tmp_path: Any
) -> None:
    """Windows, scaling, seasonal naive and MASE unit are all made again here, from the values of the file."""
    panel = make_panel([90, 77, 60], missing=0.1)
    season = 7
    data = ForecastingData(
        write_csv(panel, tmp_path / "panel.csv"),
        context=10,
        horizon=4,
        season_length=season,
        cache_dir=str(tmp_path / "cache"),
    )
    data.setup("fit")
    module = ForecastingModule(
        network=Direct(recurrent=RecurrentConfig(kind="gru", hidden_size=5)),
        head=head,
        metrics_in=metrics_in,  # type: ignore[arg-type]
    )
    module.build(data.preprocessing())
    module.double().eval()
    dataset = data.dataset("test")
    batch = dataset.batch(Piece(0, np.arange(len(dataset))))
    batch = ForecastBatch(*[part.double() if part.is_floating_point() else part for part in batch])
    with torch.no_grad():
        shown = module.series_forecast(module(batch))
        ours = means(module.evaluation_values(batch))
    expected, naive = Steps([], [], [], [], []), Steps([], [], [], [], [])
    row = 0
    for i in range(panel.num_series):
        values = panel.series(i)
        train_end = int(np.floor(len(values) * 0.7 + 1e-6))
        test_begin = len(values) - int(np.floor(len(values) * 0.2 + 1e-6))
        mean, scale = np.nanmean(values[:train_end]), np.nanstd(values[:train_end])
        unit = np.nanmean(np.abs(values[season:train_end] - values[: train_end - season]))
        level, size = (0.0, 1.0) if metrics_in == "file" else (mean, scale)
        for origin in range(test_begin, len(values) - 4 + 1):
            for step in range(4):
                if not np.isnan(values[origin + step]):
                    known = values[: origin + step - season + 1]
                    before = known[~np.isnan(known)][-1]
                    came = (values[origin + step] - level) / size
                    naive.target.append(came)
                    naive.unit.append(unit / size)
                    naive.mean.append((before - level) / size)
                    naive.median.append((before - level) / size)
                    expected.target.append(came)
                    expected.unit.append(unit / size)
                    for part, into in ((shown.mean, expected.mean), (shown.median, expected.median)):
                        in_file = float(part[row, step]) * scale + mean
                        into.append((in_file - level) / size)
                    if shown.quantiles is not None:
                        in_file_quantiles = shown.quantiles[row, step].numpy() * scale + mean
                        expected.quantiles.append(((in_file_quantiles - level) / size).tolist())
            row += 1
    assert row == len(dataset)
    # The file's values pass through float32 once they are scaled.
    for name, value in plain_metrics(expected, list(head.levels)).items():
        assert ours[name] == pytest.approx(value, rel=1e-5), name
    for name, value in plain_metrics(naive, []).items():
        assert ours[f"{NAIVE}/{name}"] == pytest.approx(value, rel=1e-5), name

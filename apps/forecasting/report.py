"""Table and pictures of a tested forecaster beside its baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from apps.forecasting.heads import Point
from apps.forecasting.module import BaselineModule, ForecastingModule, SeriesForecast
from apps.forecasting.network import FeedForwardBaseline
from apps.forecasting.plots import NAMES, ForecastExample, Values, plot_error_by_horizon, plot_forecasts
from core.training.command.finished_run import FinishedRun, format_table
from data.batching import Piece
from data.forecasting import ForecastBatch, ForecastingData

SHOWN_METRICS = ("mae", "mse", "mase", "wql", "smape", "coverage80")
MAX_EXAMPLES = 4
# More would take longer than they tell: the mean error of a step is known to well below a line's width.
MAX_WINDOWS_FOR_ERRORS = 20_000


def feed_forward_baseline(module: ForecastingModule) -> ForecastingModule:
    """The FNN (notes N1) with the head, loss and optimisation of `module`, untrained."""
    return BaselineModule(
        network=FeedForwardBaseline(window_scaling=module.network_config.scaling),
        head=module.head,
        loss_mean=module.loss_mean,
        metrics_in=module.metrics_in,
        optimizer=module.optimizer,
        schedule=module.schedule,
        seed=module.seed,
    )


def report(run: FinishedRun) -> None:
    """Print the table and draw `forecast.png` and `error_by_horizon.png` into the run's folder."""
    rows = run.forecasters()
    shown = [metric for metric in SHOWN_METRICS if metric in rows["ours"]]
    if isinstance(run.module.head, Point):
        # One value for all quantiles makes it the normalised absolute error; the name would promise more.
        shown.remove("wql")
    print("\n" + format_table(rows, shown, names=NAMES) + "\n")
    pictures = Path(run.run_dir) / "plots"
    name = Path(run.data.path).stem
    module = run.module.cpu().eval()
    plot_forecasts(
        forecast_examples(module, run.data), pictures / "forecast.png", title=f"{name}: forecasts of the test part"
    )
    errors = error_by_horizon(module, run.data)
    if run.baseline is not None:
        baseline = run.baseline.cpu().eval()
        assert isinstance(baseline, ForecastingModule)
        errors["feed_forward"] = error_by_horizon(baseline, run.data)["ours"]
    unit = "in units of the file" if module.metrics_in == "file" else "in standard deviations"
    plot_error_by_horizon(errors, pictures / "error_by_horizon.png", title=f"{name}: error by horizon", unit=unit)
    print(f"Table, pictures and checkpoints: {run.run_dir}")


@torch.no_grad()
def _in_file_units(module: ForecastingModule, batch: ForecastBatch) -> SeriesForecast:
    forecast = module.predict_step(_like_weights(module, batch))
    return forecast.in_file_units(module.of_series("mean", batch.series), module.of_series("scale", batch.series))


def _like_weights(module: ForecastingModule, batch: ForecastBatch) -> ForecastBatch:
    return batch.in_dtype(next(module.parameters()).dtype)


def forecast_examples(module: ForecastingModule, data: ForecastingData) -> list[ForecastExample]:
    """The last test window of up to four series, in the units of the file."""
    dataset = data.windows("test")
    panel = data.panel
    last = np.cumsum(dataset.index.num_windows) - 1
    chosen = last[dataset.index.num_windows > 0][:MAX_EXAMPLES]
    batch = dataset.batch(Piece(0, chosen.astype(np.int64)))
    forecast = _in_file_units(module, batch)
    series, origins = dataset.locate(chosen.astype(np.int64))
    examples = []
    for row, (i, origin) in enumerate(zip(series.tolist(), origins.tolist(), strict=True)):
        first = max(origin - min(data.context, 4 * data.horizon), 0)
        history, future = slice(first, origin), slice(origin, origin + data.horizon)
        naive = batch.seasonal_naive[row].numpy() * data.scale[i] + data.mean[i]
        examples.append(
            ForecastExample(
                title=panel.series_ids[i],
                history_dates=panel.series_timestamps(i)[history],
                history=panel.series(i)[history],
                future_dates=panel.series_timestamps(i)[future],
                actual=panel.series(i)[future],
                median=forecast.median[row].numpy(),
                naive=naive,
                quantiles=None if forecast.quantiles is None else forecast.quantiles[row].numpy(),
                levels=module.head.levels,
            )
        )
    return examples


@torch.no_grad()
def error_by_horizon(module: ForecastingModule, data: ForecastingData) -> dict[str, Values]:
    """Mean absolute error of each step of the horizon, ours and the seasonal naive's, in the units of the metrics."""
    dataset = data.windows("test")
    numbers = np.arange(len(dataset), dtype=np.int64)
    if len(numbers) > MAX_WINDOWS_FOR_ERRORS:
        numbers = numbers[np.linspace(0, len(numbers) - 1, MAX_WINDOWS_FOR_ERRORS).astype(np.int64)]
    totals = {name: torch.zeros(data.horizon, dtype=torch.float64) for name in ("ours", "seasonal_naive")}
    count = torch.zeros(data.horizon, dtype=torch.float64)
    for chunk in np.array_split(numbers, -(-len(numbers) // 1024)):
        batch = _like_weights(module, dataset.batch(Piece(0, chunk)))
        scale = module.of_series("scale", batch.series) if module.metrics_in == "file" else torch.ones(len(chunk))
        median = module.predict_step(batch).median
        for name, forecast in (("ours", median), ("seasonal_naive", batch.seasonal_naive)):
            error = ((forecast - batch.target).abs() * scale.unsqueeze(1)).masked_fill(~batch.target_observed, 0.0)
            totals[name] += error.sum(dim=0).double()
        count += batch.target_observed.sum(dim=0)
    return {name: (total / count.clamp(min=1)).numpy() for name, total in totals.items()}

"""Pictures: written, of a sensible size, and with something in them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from apps.forecasting.plots import NAIVE, OURS, ForecastExample, plot_error_by_horizon, plot_forecasts

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


def make_example(number: int, *, quantiles: bool, missing: str = "nothing", horizon: int = 14) -> ForecastExample:
    generator = np.random.default_rng(number)
    dates = np.datetime64("2024-01-01", "s") + np.arange(40 + horizon) * np.timedelta64(86_400, "s")
    history, actual = 10 + generator.normal(size=40).cumsum(), 10 + generator.normal(size=horizon)
    if missing in ("all", "last"):
        history[-1 if missing == "last" else slice(None)] = np.nan
    if missing == "all":
        actual[:] = np.nan
    median = 10 + generator.normal(size=horizon)
    return ForecastExample(
        title=f"series {number}",
        history_dates=dates[:40],
        history=history,
        future_dates=dates[40:],
        actual=actual,
        median=median,
        naive=np.full(horizon, 9.0),
        quantiles=median[:, None] + np.array([-2, -1, 0, 1, 2]) if quantiles else None,
        levels=LEVELS if quantiles else (),
    )


def pixels_of(path: Path, colour: str) -> int:
    """Pixels close to a colour."""
    image = matplotlib.image.imread(path)[..., :3]
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(image - wanted).max(axis=-1) < 0.08).sum())


def tinted(path: Path) -> int:
    """Pixels of a light blue, as the fan has them."""
    image = matplotlib.image.imread(path)[..., :3]
    return int(((image[..., 2] - image[..., 0] > 0.05) & (image[..., 0] > 0.6)).sum())


@pytest.mark.parametrize("quantiles", [False, True], ids=["point", "quantiles"])
@pytest.mark.parametrize("num_series", [1, 3, 4])
def test_forecasts_are_drawn(num_series: int, quantiles: bool, tmp_path: Path) -> None:
    path = tmp_path / "plots" / "forecast.png"
    plot_forecasts([make_example(n, quantiles=quantiles) for n in range(num_series)], path, title="demo")
    height, width = matplotlib.image.imread(path).shape[:2]
    assert (width, height) == ((704, 374) if num_series == 1 else (1408, 671))
    assert pixels_of(path, OURS) > 200 * num_series
    assert pixels_of(path, NAIVE) > 50 * num_series
    assert (tinted(path) > 5000 * num_series) == quantiles


@pytest.mark.parametrize("missing", ["last", "all"])
@pytest.mark.parametrize("quantiles", [False, True], ids=["point", "quantiles"])
def test_missing_history_leaves_the_forecast(quantiles: bool, missing: str, tmp_path: Path) -> None:
    path = tmp_path / "forecast.png"
    plot_forecasts([make_example(0, quantiles=quantiles, missing=missing)], path, title="demo")
    assert pixels_of(path, OURS) > 200


def test_one_step_is_drawn_from_the_last_of_the_history(tmp_path: Path) -> None:
    path = tmp_path / "forecast.png"
    plot_forecasts([make_example(0, quantiles=False, horizon=1)], path, title="demo")
    assert pixels_of(path, OURS) > 50


def test_errors_are_drawn_for_every_forecaster(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "error.png"
    errors = {"ours": np.linspace(1, 2, 14), "seasonal_naive": np.full(14, 3.0), "another": np.full(14, 2.5)}
    plot_error_by_horizon(errors, path, title="demo", unit="degrees")
    assert matplotlib.image.imread(path).shape[:2] == (396, 704)
    assert pixels_of(path, OURS) > 500
    assert pixels_of(path, NAIVE) > 300


def test_a_horizon_of_one_step_shows_a_point(tmp_path: Path) -> None:
    path = tmp_path / "error.png"
    plot_error_by_horizon({"ours": np.array([1.0])}, path, title="demo", unit="degrees")
    assert pixels_of(path, OURS) > 5

"""Pictures of a forecast: history with its fan, and the error by step of the horizon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.training.watching.figures import FEED_FORWARD, INK, MUTED, NAIVE, OURS, new_figure, save_figure, set_title

Values = npt.NDArray[np.floating[Any]]

COLOURS = {"ours": OURS, "feed_forward": FEED_FORWARD, "seasonal_naive": NAIVE}
NAMES = {"ours": "recurrent network", "feed_forward": "feed-forward network", "seasonal_naive": "seasonal naive"}


@dataclass(frozen=True)
class ForecastExample:
    """One window to draw, in the units of the file.

    Attributes:
        title: the series.
        history_dates: dates of the history shown.
        history: its values, NaN where missing.
        future_dates: dates of the horizon.
        actual: what came, NaN where missing.
        median: the forecast.
        naive: the seasonal naive forecast.
        quantiles: `(horizon, levels)`, or None.
        levels: the levels.
    """

    title: str
    history_dates: npt.NDArray[np.datetime64]
    history: Values
    future_dates: npt.NDArray[np.datetime64]
    actual: Values
    median: Values
    naive: Values
    quantiles: Values | None
    levels: Sequence[float]


def _tint(colour: str, lightness: float) -> tuple[float, ...]:
    """The colour mixed with white; opaque, so that the legend shows what the picture does."""
    channels = [int(colour[position : position + 2], 16) / 255 for position in (1, 3, 5)]
    return tuple(channel + (1 - channel) * lightness for channel in channels)


def plot_forecasts(examples: Sequence[ForecastExample], path: Path, *, title: str) -> None:
    """History, what came, the forecast with its fan and the seasonal naive, one panel an example."""
    from matplotlib import dates

    columns = 1 if len(examples) == 1 else 2
    rows = -(-len(examples) // columns)
    figure, axes = new_figure(rows, columns, width=6.4 * columns, height=2.7 * rows + 0.7)
    for axis in list(axes.flat)[len(examples) :]:
        axis.set_visible(False)
    for axis, example in zip(axes.flat, examples, strict=False):
        _draw_example(axis, example)
        axis.set_title(example.title, loc="left", fontsize=10, color=INK)
        locator: Any = dates.AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8.5)
    set_title(figure, title)
    save_figure(figure, path)


def _draw_example(axis: Any, example: ForecastExample) -> None:
    axis.axvspan(example.future_dates[0], example.future_dates[-1], color="#f5f7fa", zorder=0)
    # The forecast starts where the history ends: a gap between the two lines would read as a jump.
    dates = np.concatenate([example.history_dates[-1:], example.future_dates])
    start = example.history[-1:]
    if example.quantiles is not None:
        pairs = len(example.levels) // 2
        for pair in range(pairs):
            low, high = example.quantiles[:, pair], example.quantiles[:, -1 - pair]
            share = example.levels[-1 - pair] - example.levels[pair]
            axis.fill_between(
                dates,
                np.concatenate([start, low]),
                np.concatenate([start, high]),
                color=_tint(OURS, 0.82 - 0.4 * pair / max(pairs - 1, 1)),
                linewidth=0,
                label=f"{100 * share:.0f} % interval" if pairs <= 2 or pair == 0 else None,
            )
    axis.plot(example.history_dates, example.history, color=INK, linewidth=1.1, label="history")

    def draw(values: Values, label: str, **style: Any) -> None:
        axis.plot(dates, np.concatenate([start, values]), label=label, **style)

    draw(example.actual, "what came", color=INK, linewidth=1.1, linestyle=(0, (1, 1)))
    draw(example.naive, NAMES["seasonal_naive"], color=NAIVE, linewidth=1.0, alpha=0.9)
    draw(example.median, "forecast", color=OURS, linewidth=1.8)


def plot_error_by_horizon(errors: Mapping[str, Values], path: Path, *, title: str, unit: str) -> None:
    """Mean absolute error against the step of the horizon, one line a forecaster."""
    figure, axes = new_figure(1, 1, width=6.4, height=3.6)
    axis = axes[0, 0]
    for name, values in errors.items():
        steps = np.arange(1, len(values) + 1)
        axis.plot(
            steps,
            values,
            color=COLOURS.get(name, INK),
            linewidth=2 if name == "ours" else 1.3,
            marker="o" if len(values) <= 31 else None,
            markersize=3,
            label=NAMES.get(name, name),
        )
    axis.set_ylim(bottom=0)
    axis.set_xlabel("step of the horizon", fontsize=9, color=MUTED)
    axis.set_ylabel(f"mean absolute error ({unit})", fontsize=9, color=MUTED)
    axis.legend(frameon=False, fontsize=8.5)
    set_title(figure, title)
    save_figure(figure, path)

"""One look for the pictures of all applications."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
OURS, NAIVE, FEED_FORWARD = "#0b6e99", "#d9822b", "#7b5ea7"
COLOURS = (OURS, FEED_FORWARD, NAIVE, "#3f9142", INK)
"""In the order of lines or bars: ours first."""


def new_figure(
    rows: int, columns: int, *, width: float, height: float, height_ratios: Sequence[float] | None = None
) -> tuple[Any, Any]:
    """A figure and its axes (rows, columns); `width` and `height` in inches."""
    # Agg draws without a display; pyplot would keep every figure of a long run in memory.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=height_ratios)
    for axis in axes.flat:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color("#9aa5b1")
        axis.grid(axis="y", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=MUTED, labelsize=8)
    return figure, axes


def set_title(figure: Any, title: str) -> None:
    """A title at the left, above all axes."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)


def save_figure(figure: Any, path: Path) -> None:
    """Write the picture, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)

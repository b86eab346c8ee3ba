"""Pictures: lines told apart by dash and marker as well as colour, so that they read in black and white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from benchmarks.notes.experiment import Curve, Experiment, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
STYLES: tuple[tuple[str, Any, str], ...] = (
    ("#0b3c5d", "-", "o"),
    ("#d9822b", "--", "s"),
    ("#7b5ea7", "-.", "^"),
    ("#2a9d8f", ":", "D"),
    ("#b23a48", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#8a8f98", (0, (1, 1)), "x"),
    ("#1f2933", (0, (8, 3)), "P"),
)
NUM_MARKERS = 6


def draw(experiment: Experiment, record: Record, path: Path) -> None:
    """Draw the picture of an experiment into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(9.0, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(page)
    experiment.draw(record, page)
    title = page.get_suptitle()
    page.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of the library, the same numbers give the same file.
    page.savefig(path, metadata={"Software": None})


def draw_lines(
    axis: Axes,
    curves: Mapping[str, Sequence[Curve]],
    *,
    x: str,
    y: str | None,
    log: bool = False,
    level: tuple[float, str] | None = None,
) -> None:
    """Mean over the seeds of each case, with a band of one standard deviation.

    Args:
        axis: where to draw.
        curves: by case, one curve a seed.
        x: label of the axis, with its unit.
        y: likewise; None beside an axis that says it.
        log: logarithmic values; the band is then from the least to the greatest seed.
        level: a value to compare with, and what it is.
    """
    style_axis(axis, x=x, y=y)
    for (case, seeds), (colour, dash, marker) in zip(curves.items(), STYLES, strict=False):
        steps = seeds[0]["x"]
        values = list(zip(*(seed["y"] for seed in seeds), strict=True))
        centre = [mean(at) for at in values]
        spread = [stdev(at) if len(at) > 1 else 0.0 for at in values]
        low = [min(at) for at in values] if log else [c - s for c, s in zip(centre, spread, strict=True)]
        high = [max(at) for at in values] if log else [c + s for c, s in zip(centre, spread, strict=True)]
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        every = max(1, len(steps) // NUM_MARKERS)
        axis.plot(
            steps, centre, color=colour, linestyle=dash, marker=marker, markevery=every, markersize=4.5, label=case
        )
    if level is not None:
        axis.axhline(level[0], color=INK, linewidth=0.8, linestyle=(0, (2, 4)), label=level[1])
    if log:
        axis.set_yscale("log")
    if len(curves) > 5:
        axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axis.legend(frameon=False, fontsize=8)


def draw_bars(axis: Axes, values: Mapping[str, Sequence[float]], *, y: str) -> None:
    """A bar a case with its mean written on it, and a point a seed."""
    style_axis(axis, x=None, y=y)
    names = list(values)
    centre = [mean(values[name]) for name in names]
    axis.bar(range(len(names)), centre, color="#c9d6df", edgecolor=INK, linewidth=0.8, width=0.6)
    for position, (name, value) in enumerate(zip(names, centre, strict=True)):
        if len(values[name]) > 1:
            axis.plot([position] * len(values[name]), values[name], "o", color=INK, markersize=3)
        label = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1g}"
        above = max(value, *values[name])
        axis.annotate(label, (position, above), (0, 4), textcoords="offset points", ha="center", fontsize=8.5)
    axis.set_xticks(range(len(names)), names, fontsize=8.5)
    axis.margins(y=0.12)


def style_axis(axis: Axes, *, x: str | None, y: str | None) -> None:
    """Quiet frame and grid, labels."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=MUTED, labelsize=8.5)
    axis.set_xlabel(x or "", fontsize=9.5, color=INK)
    axis.set_ylabel(y or "", fontsize=9.5, color=INK)

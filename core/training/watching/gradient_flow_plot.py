"""The picture of `GradientFlow`: ||dL/dh(t)|| over t, a panel for each layer, a line for each measured step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.training.gradient_flow import Measurement

MAX_LINES = 8
COLUMNS = 2


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the measurements into a PNG file; of many steps, some evenly among them."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(one.layer for one in measurements))
    steps = sorted({one.step for one in measurements})
    shown = [steps[round(i * (len(steps) - 1) / (MAX_LINES - 1))] for i in range(MAX_LINES)]
    shown = sorted(set(shown)) if len(steps) > MAX_LINES else steps
    num_rows = -(-len(layers) // COLUMNS)
    figure = Figure(figsize=(10, 1 + 2.8 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, COLUMNS, squeeze=False, sharey=True)
    for layer, axis in zip(layers, axes.flat, strict=False):
        for one in measurements:
            if one.layer == layer and one.step in shown:
                place = shown.index(one.step) / max(len(shown) - 1, 1)
                axis.plot(one.norms, color=colormaps["viridis"](0.9 * place), label=f"step {one.step}", linewidth=1.2)
        axis.set_yscale("log")
        axis.set_title(layer, fontsize=10)
        axis.set_xlabel("time step t")
    axes[0, 0].set_ylabel("mean ||dL/dh(t)||")
    axes[0, 0].legend(fontsize=8)
    for axis in axes.flat[len(layers) :]:
        axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})

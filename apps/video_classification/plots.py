"""Pictures of a classifier: what is taken for what, and what it says of a video as time goes by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8

from core.training.watching.figures import COLOURS, INK, MUTED, new_figure, save_figure, set_title

# Beyond so many classes numbers in the cells would overlap.
_MOST_NUMBERED = 25
_STRIP = 8
_CURVES = 4


def plot_confusion(
    confusion: Int64[np.ndarray, "classes classes"], class_names: Sequence[str], path: Path, *, title: str
) -> None:
    """How many videos of each class (rows) were taken for each class (columns).

    Args:
        confusion: the numbers.
        class_names: in the same order.
        path: the picture to write.
        title: above it.
    """
    number = len(class_names)
    side = max(4.5, 0.34 * number)
    figure, axes = new_figure(1, 1, width=side + 2.0, height=side + 1.5)
    axis = axes[0, 0]
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    picture = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axis.grid(visible=False)
    axis.set_xticks(range(number), class_names, rotation=90, fontsize=7)
    axis.set_yticks(range(number), class_names, fontsize=7)
    axis.set_xlabel("taken for", fontsize=8, color=MUTED)
    axis.set_ylabel("is", fontsize=8, color=MUTED)
    if number <= _MOST_NUMBERED:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else INK
            axis.text(column, row, confusion[row, column], ha="center", va="center", fontsize=7, color=colour)
    bar = figure.colorbar(picture, ax=axis, shrink=0.7)
    bar.set_label("share of the class", fontsize=8, color=MUTED)
    bar.ax.tick_params(labelsize=7, colors=MUTED)
    set_title(figure, title)
    save_figure(figure, path)


def plot_over_time(
    frames: UInt8[np.ndarray, "time height width 3"],
    probabilities: Float[np.ndarray, "time classes"],
    class_names: Sequence[str],
    path: Path,
    *,
    title: str,
) -> None:
    """A strip of frames, and below it how probable the likeliest classes are with every further frame.

    Args:
        frames: of a clip, in order.
        probabilities: of the clip up to each frame.
        class_names: of the columns.
        path: the picture to write.
        title: above it.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, min(_STRIP, len(frames))).round().astype(int))
    figure, axes = new_figure(2, 1, width=9.0, height=4.4, height_ratios=(1, 2.4))
    above, axis = axes[:, 0]
    above.axis("off")
    steps = np.arange(1, len(frames) + 1)
    # The likeliest at the end, and whatever was likeliest on the way.
    likely = probabilities.max(0) + probabilities[-1]
    for colour, place in zip(COLOURS, np.argsort(-likely)[:_CURVES], strict=False):
        axis.plot(steps, probabilities[:, place], color=colour, linewidth=2, label=class_names[place])
    axis.set_xlim(0.5, len(frames) + 0.5)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("frames seen", fontsize=8, color=MUTED)
    axis.set_ylabel("probability", fontsize=8, color=MUTED)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for column, place in enumerate(shown):
        inset = above.inset_axes((column / _STRIP, 0.0, 0.92 / _STRIP, 1.0))
        inset.imshow(frames[place])
        inset.axis("off")
        inset.set_title(str(place + 1), fontsize=7, color=MUTED, pad=2)
    set_title(figure, title)
    save_figure(figure, path)

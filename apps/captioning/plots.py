"""Pictures of a captioner: what it says of images beside what people said, and where it looked for each word."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from apps.captioning.captioner import Caption
from core.training.watching.figures import INK, MUTED, NAIVE, OURS, new_figure, save_figure, set_title

_COLUMNS = 6
_PANEL_WIDTH = 2.7
"""Of an image on the contact sheet, in inches."""
_LINE = 0.145
"""Height of a line of text there, in inches."""
_AT_TOP: dict[str, Any] = {"xycoords": "axes fraction", "va": "top", "ha": "left", "in_layout": False}
_LIGHT = np.array([1.0, 0.75, 0.2], np.float32)


class Described(NamedTuple):
    """An image of a contact sheet."""

    image: UInt8[Tensor, "3 height width"]
    generated: str
    references: Sequence[str]
    is_true: bool | None = None
    """Whether the generated caption is true, where that is known."""


def plot_contact_sheet(shown: Sequence[Described], path: Path, *, title: str, columns: int = 4) -> None:
    """Images with the generated caption in bold and references below it.

    Args:
        shown: the images.
        path: the picture to write.
        title: its title.
        columns: images a row.
    """
    rows = [list(shown[start : start + columns]) for start in range(0, len(shown), columns)]
    heights = []
    for row in rows:
        tallest = max(one.image.shape[1] / one.image.shape[2] for one in row)
        heights += [_PANEL_WIDTH * min(tallest, 1.25), max(_texts(one)[2] for one in row)]
    figure, axes = new_figure(
        2 * len(rows),
        columns,
        width=(_PANEL_WIDTH + 0.1) * columns,
        height=sum(heights) + 0.04 * len(heights) + 0.4,
        height_ratios=heights,
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, row in enumerate(rows):
        for axis, below, one in zip(axes[2 * number], axes[2 * number + 1], row, strict=False):
            axis.imshow(one.image.permute(1, 2, 0).numpy())
            axis.set_anchor("SW")
            generated, references, _ = _texts(one)
            colour = NAIVE if one.is_true is False else OURS
            below.annotate(generated, (0.0, 1.0), fontsize=8.5, fontweight="bold", color=colour, **_AT_TOP)
            drop = -72 * _LINE * _num_lines(generated)
            below.annotate(
                references,
                (0.0, 1.0),
                xytext=(0, drop),
                textcoords="offset points",
                fontsize=7.5,
                color=MUTED,
                **_AT_TOP,
            )
    set_title(figure, title)
    # Text keeps its own axes here; a caption wider than its image would otherwise squeeze all images.
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.05, hspace=0, wspace=0)
    save_figure(figure, path)


def _texts(one: Described) -> tuple[str, str, float]:
    """The generated caption, two references, and the height of both together in inches."""
    generated = _wrapped(one.generated, 36)
    references = "\n".join(_wrapped(reference, 42, lines=2) for reference in one.references[:2])
    return generated, references, _LINE * (_num_lines(generated) + _num_lines(references)) + 0.1


def _num_lines(text: str) -> int:
    return text.count("\n") + 1


def _wrapped(text: str, width: int, *, lines: int = 3) -> str:
    return "\n".join(textwrap.wrap(text or "(nothing)", width, max_lines=lines, placeholder=" ..."))


def plot_attention(image: UInt8[Tensor, "3 height width"], caption: Caption, path: Path) -> None:
    """The image once for each word of a caption, lit up where attention looked before it was said.

    Args:
        image: RGB.
        caption: with attention.
        path: the picture to write.
    """
    assert caption.attention is not None
    pixels = image.permute(1, 2, 0).numpy().astype(np.float32) / 255.0
    height, width = pixels.shape[:2]
    panels = len(caption.tokens) + 1
    rows = -(-panels // _COLUMNS)
    figure, axes = new_figure(rows, _COLUMNS, width=1.75 * _COLUMNS, height=2.0 * rows + 0.4)
    for axis in axes.flat:
        axis.axis("off")
    axes.flat[0].imshow(pixels)
    for axis, token, weights in zip(axes.flat[1:], caption.tokens, caption.attention, strict=False):
        light = _enlarged(weights, height, width)[..., None]
        # Dimmed, and lit by a colour: a black image would show no brightness.
        axis.imshow(pixels * (0.4 + 0.3 * light) + 0.3 * light * _LIGHT)
        axis.set_title(token, fontsize=9, color=INK, pad=3)
    set_title(figure, caption.text)
    save_figure(figure, path)


def _enlarged(weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Weights of a grid at every pixel, smooth, from 0 to 1."""
    import torch
    from torch.nn import functional

    grid = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32))[None, None]
    smooth = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0, 0]
    found: np.ndarray = (smooth / smooth.max().clamp(min=1e-8)).clamp(0, 1).numpy()
    return found

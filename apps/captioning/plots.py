"""Pictures of a captioner: what it says of images beside what people said, and where it looked for each word."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from apps.captioning.captioner import Caption
from core.training.figures import INK, MUTED, NAIVE, OURS, new_figure, save_figure, set_title

_COLUMNS = 6
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
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(rows, columns, width=2.9 * columns, height=3.7 * rows)
    for axis in axes.flat:
        axis.axis("off")
    for axis, one in zip(axes.flat, shown, strict=False):
        axis.imshow(one.image.permute(1, 2, 0).numpy())
        wrong = one.is_true is False
        axis.text(
            0.0,
            -0.04,
            _wrapped(one.generated, 34),
            transform=axis.transAxes,
            va="top",
            fontsize=8.5,
            fontweight="bold",
            color=NAIVE if wrong else OURS,
        )
        lines = _wrapped(one.generated, 34).count("\n") + 1
        references = "\n".join(_wrapped(reference, 40, lines=2) for reference in one.references[:2])
        axis.text(
            0.0,
            -0.08 - 0.075 * lines,
            references,
            transform=axis.transAxes,
            va="top",
            fontsize=7.5,
            color=MUTED,
        )
    set_title(figure, title)
    # Captions are as long as they are; the layout does not see text below an axis.
    figure.get_layout_engine().set(h_pad=0.36)
    save_figure(figure, path)


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

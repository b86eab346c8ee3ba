"""Pictures of a translator: what it looked at, how it fares with long sentences, how it learnt."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.translation.generation import Translation
from core.training.figures import COLOURS, INK, MUTED, new_figure, save_figure, set_title
from data.text import Text
from data.tokenisation.words import JOINER

Bins = Sequence[tuple[str, int, float]]
"""Name, number of sentences and BLEU of each bin of lengths."""


def plot_attention(translations: Sequence[tuple[str, Translation]], path: Path, *, source_text: Text) -> None:
    """A heat map a sentence: a row for each piece of the translation, a column for each piece of the source.

    Args:
        translations: raw sentences and their translations, which have attention.
        path: the picture to write.
        source_text: the vocabulary of the sentences.
    """
    sizes = [
        (len(translation.tokens), len(source_text.encode([source])[0]) + 1) for source, translation in translations
    ]
    width = 1.8 + 0.33 * max(columns for _, columns in sizes)
    heights = [1.3 + 0.24 * rows for rows, _ in sizes]
    figure, axes = new_figure(len(sizes), 1, width=width, height=sum(heights), height_ratios=heights)
    for axis, (source, translation) in zip(axes.flat, translations, strict=True):
        pieces = [*source_text.tokens(source_text.encode([source])[0].tolist()), "<eos>"]
        assert translation.attention is not None
        axis.imshow(translation.attention[:, : len(pieces)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(pieces)), _readable(pieces), rotation=45, ha="left", rotation_mode="anchor")
        axis.set_yticks(range(len(translation.tokens)), _readable(translation.tokens))
        axis.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.grid(visible=False)
        axis.set_xlabel(translation.text, fontsize=8, color=INK)
    save_figure(figure, path)


def _readable(pieces: Sequence[str]) -> list[str]:
    # The marks of a word's beginning (subwords) and of a piece that joins its neighbour (words).
    return [piece.replace("▁", "·").replace(JOINER, "") for piece in pieces]


def plot_bleu_by_length(curves: Mapping[str, Bins], path: Path, *, title: str) -> None:
    """Bars of BLEU by length of the source, side by side for each translator; the number of sentences below.

    Args:
        curves: bins by who translated.
        path: the picture to write.
        title: its title.
    """
    figure, axes = new_figure(1, 1, width=7.5, height=3.6)
    axis = axes.flat[0]
    share = 0.8 / len(curves)
    for number, (name, bins) in enumerate(curves.items()):
        places = [place + (number - (len(curves) - 1) / 2) * share for place in range(len(bins))]
        bars = axis.bar(
            places, [bleu for *_, bleu in bins], 0.92 * share, label=name, color=COLOURS[number % len(COLOURS)]
        )
        axis.bar_label(bars, fmt="%.0f", fontsize=8, color=INK)
    bins = next(iter(curves.values()))
    axis.set_xticks(range(len(bins)), [f"{name}\n({count})" for name, count, _ in bins])
    axis.set_xlabel("words of the source (number of sentences)", fontsize=9, color=MUTED)
    axis.set_ylabel("BLEU, lower-cased", fontsize=9, color=MUTED)
    axis.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=len(curves), frameon=False, fontsize=8.5)
    set_title(figure, title)
    save_figure(figure, path)


def plot_learning_curves(run_dir: Path, path: Path) -> bool:
    """Loss and BLEU by epoch, from the run's CSV log; False, and no picture, where there is no log."""
    epochs = read_epochs(run_dir)
    if not epochs:
        return False
    panels = [("loss", ("train/loss", "val/loss"), "nats a token"), ("bleu_lc", ("val/bleu_lc",), "BLEU, lower-cased")]
    figure, axes = new_figure(1, len(panels), width=8.5, height=3.2)
    for axis, (_, names, label) in zip(axes.flat, panels, strict=True):
        for number, name in enumerate(names):
            points = [(epoch + 1, values[name]) for epoch, values in epochs.items() if name in values]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, color=COLOURS[number], marker="o", markersize=3)
        axis.set_xlabel("epoch", fontsize=9, color=MUTED)
        axis.set_title(label, loc="left", color=INK, fontsize=10)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis.lines:  # a run may end before its first validation
            axis.legend(frameon=False, fontsize=8.5)
    save_figure(figure, path)
    return True


def read_epochs(run_dir: Path) -> dict[int, dict[str, float]]:
    """What the CSV logger wrote of each epoch; a run that resumed has written into more than one file."""
    epochs: dict[int, dict[str, float]] = {}
    for file in sorted((run_dir / "csv").rglob("metrics.csv"), key=lambda found: found.stat().st_mtime):
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                values: dict[str, Any] = {
                    name: float(value) for name, value in row.items() if value and name != "epoch"
                }
                if row.get("epoch"):
                    epochs.setdefault(int(float(row["epoch"])), {}).update(values)
    return epochs

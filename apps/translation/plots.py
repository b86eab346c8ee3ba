"""Pictures of a translator: what it looked at, how it fares with long sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.translation.generation import Translation
from core.training.watching.figures import COLOURS, INK, MUTED, new_figure, save_figure, set_title
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

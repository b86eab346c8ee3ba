"""BLEU and chrF of whole corpora, by sacreBLEU (Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np


@cache
def _scorers() -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu_lc": BLEU(lowercase=True), "bleu_cased": BLEU(), "chrf": CHRF()}


def translation_metrics(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Metrics of raw text against one raw reference each.

    Args:
        translations: as a user reads them, detokenised.
        references: as they stand in the file.

    Returns:
        bleu_lc (lower-cased) and bleu_cased, 0 to 100; chrf, 0 to 100; exact_match, the share of equal texts, 0 to 1.
    """
    assert len(translations) == len(references) > 0
    scores = {name: float(scorer.corpus_score(translations, [references]).score) for name, scorer in _scorers().items()}
    equal = [ours.strip() == theirs.strip() for ours, theirs in zip(translations, references, strict=True)]
    return {**scores, "exact_match": float(np.mean(equal))}


def signatures() -> dict[str, str]:
    """How each metric of sacreBLEU is computed, in its own words; known once it has scored something."""
    return {name: str(scorer.get_signature()) for name, scorer in _scorers().items()}


def bleu_by_length(
    translations: Sequence[str], references: Sequence[str], *, lengths: Sequence[int], edges: Sequence[int]
) -> list[tuple[str, int, float]]:
    """Lower-cased BLEU of sentences of like length.

    Args:
        translations: raw text.
        references: raw text.
        lengths: words of each source.
        edges: the longest length of each bin, ascending; one more bin holds the rest.

    Returns:
        Name, number of sentences and BLEU of each bin that holds a sentence.
    """
    bins = np.searchsorted(np.asarray(edges), np.asarray(lengths), side="left")
    names = [f"{low + 1}-{high}" for low, high in zip([0, *edges], edges, strict=False)] + [f"> {edges[-1]}"]
    found = []
    for number, name in enumerate(names):
        rows = np.flatnonzero(bins == number).tolist()
        if rows:
            chosen = [translations[row] for row in rows], [references[row] for row in rows]
            found.append((name, len(rows), translation_metrics(*chosen)["bleu_lc"]))
    return found

"""ROUGE-L of captions (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.1)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["longest_common_subsequence", "rouge_l"]

_BETA = 1.2  # recall weighs this much more than precision


def rouge_l(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> npt.NDArray[np.float64]:
    """F-measure of the longest common subsequence, as evaluations of captions compute it.

    Precision and recall are each the best over an image's references, which need not be the same reference.

    Args:
        hypotheses: tokens of one caption an image.
        references: tokens of each reference of each image, at least one an image.

    Returns:
        0 to 1 for each image, shape (images,). A text without a token counts as one that says nothing: it equals another
        such text (1), and has nothing in common with the rest (0).
    """
    assert len(hypotheses) == len(references)
    scores = [_best(hypothesis, of_image) for hypothesis, of_image in zip(hypotheses, references, strict=True)]
    return np.asarray(scores, dtype=np.float64)


def _best(hypothesis: Sequence[Hashable], references: Sequence[Sequence[Hashable]]) -> float:
    common = [longest_common_subsequence(hypothesis, reference) for reference in references]
    if not hypothesis:
        return float(not all(references))
    precision = max(common) / len(hypothesis)
    recall = max(num / max(len(reference), 1) for num, reference in zip(common, references, strict=True))
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def longest_common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Its length. A row of the usual table is one integer, a bit a token (Hyyrö, "Bit-Parallel LCS-length", AWOCA 2004)."""
    places: dict[Hashable, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        here = row & places.get(token, 0)
        row = (row + here | row - here) & full
    return len(first) - row.bit_count()

"""BLEU of captions against several references (Papineni et al., "BLEU", ACL 2002), as evaluations of captions compute it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

__all__ = ["corpus_bleu"]

# What the reference evaluation adds so that nothing is divided by zero. They decide the value where there is no match at
# all, so they are part of the metric.
_TINY = 1e-15
_SMALL = 1e-9


def corpus_bleu(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]], *, max_order: int = 4
) -> list[float]:
    """BLEU-1 to BLEU-`max_order` of all captions together.

    Matches and lengths are summed over the images before anything is divided. The reference length of an image is the
    one closest to its caption's, the shorter of two that are equally close.

    Args:
        hypotheses: tokens of one caption an image; an empty one matches nothing.
        references: tokens of each reference of each image, at least one an image.
        max_order: longest n-gram.

    Returns:
        One value an order, 0 to 1. Without an n-gram of an order in any caption its precision counts as 1e-6, as in the
        reference evaluation; captions that are all empty have 0.
    """
    assert len(hypotheses) == len(references) > 0
    matched, offered = [0] * max_order, [0] * max_order
    length = reference_length = 0
    for hypothesis, of_image in zip(hypotheses, references, strict=True):
        length += len(hypothesis)
        reference_length += min(map(len, of_image), key=lambda other: (abs(other - len(hypothesis)), other))
        for order in range(1, max_order + 1):
            counts = _ngrams(hypothesis, order)
            most: Counter[tuple[Hashable, ...]] = Counter()
            for reference in of_image:
                most |= _ngrams(reference, order)
            matched[order - 1] += (counts & most).total()
            offered[order - 1] += counts.total()
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(min(0.0, 1 - 1 / ratio))
    scores, product = [], 1.0
    for order, (hits, num) in enumerate(zip(matched, offered, strict=True), start=1):
        product *= (hits + _TINY) / (num + _SMALL)
        scores.append(brevity * product ** (1 / order))
    return scores


def _ngrams(tokens: Sequence[Hashable], order: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))

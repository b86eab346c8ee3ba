"""BLEU, ROUGE-L and CIDEr-D of captions, in process; equal to the reference evaluation (`pycocoevalcap`), which needs Java."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from apps.captioning.scores.bleu import corpus_bleu
from apps.captioning.scores.cider import CiderD
from apps.captioning.scores.rouge import rouge_l
from apps.captioning.scores.tokens import caption_tokens

__all__ = ["CiderD", "caption_metrics", "caption_tokens", "corpus_bleu", "metrics_of_tokens", "rouge_l"]


def caption_metrics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Metrics of raw captions against raw references, at least one an image, over all images together.

    Args:
        captions: one an image; an empty one is allowed.
        references: those of each image, in the same order.

    Returns:
        bleu1, bleu2, bleu3, bleu4: 0 to 100. rouge_l: 0 to 1. cider_d: 0 to 10, with the document frequencies of these
        references; 0.50 is what papers print as 50, and a single image has 0 (`CiderD` says why).

    Raises:
        ValueError: where an image has no reference, or there is no image.
    """
    return metrics_of_tokens(
        [caption_tokens(caption) for caption in captions],
        [[caption_tokens(reference) for reference in of_image] for of_image in references],
    )


def metrics_of_tokens(
    hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
) -> dict[str, float]:
    """The same of texts that are split into tokens already."""
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"Expected a caption for each of the images, and at least one; got {len(hypotheses)} captions and the references "
            f"of {len(references)} images."
        )
    cider_d = CiderD.of(references).score(range(len(hypotheses)), hypotheses)
    bleu = {f"bleu{order}": 100 * value for order, value in enumerate(corpus_bleu(hypotheses, references), start=1)}
    return {**bleu, "rouge_l": float(rouge_l(hypotheses, references).mean()), "cider_d": float(cider_d.mean())}

"""BLEU, ROUGE-L and CIDEr-D are those of pycocoevalcap: beside it where it is installed, by stored values everywhere."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.captioning.scores import CiderD, caption_metrics, caption_tokens, corpus_bleu, metrics_of_tokens, rouge_l
from tests.apps.captioning.scores.corpora import Corpus, corpora

patient = settings(deadline=None, max_examples=60)

CAPTIONS = [
    "A brown dog runs through the tall grass.",
    "Two men are playing football",
    "A red bus",
    "",
    "a child on a swing swing swing in a park",
    "People sit at a table , eating pizza.",
]
REFERENCES = [
    ["A brown dog is running through tall green grass .", "A dog runs in a field", "The dog isn't on a leash."],
    [
        "Two men play football on a field .",
        "Men in red and blue kick a ball",
        "Two players fight for the ball",
        "A football game",
    ],
    ["A red bus drives down the street .", "A bus"],
    ["A cat sleeps on a sofa .", "The cat's asleep"],
    ["A child swings in a park .", "A young child is on a swing in a park", "The child on a swing swing"],
    [
        "A group of people eat pizza at a table",
        "People sitting at a table, eating",
        "Friends share a pizza",
        "Several people at a restaurant",
        "Pizza",
    ],
]
# Made by pycocoevalcap 1.2, its tokeniser included.
STORED = {
    "bleu1": 82.71098261201797,
    "bleu2": 68.74903337990759,
    "bleu3": 55.835318280144776,
    "bleu4": 43.68158607719109,
    "rouge_l": 0.6437301987941583,
    "cider_d": 1.7445325603492339,
}
STORED_ROUGE_L = [0.6984732824427481, 0.48541114058355433, 1.0, 0.0, 0.8193418401611821, 0.8591549295774649]
STORED_CIDER_D = [
    1.7047771689520408,
    0.9325262226457552,
    2.6370444089682534,
    0.0,
    3.173916697920486,
    2.0189308636088676,
]


def test_metrics_of_raw_captions_are_the_stored_ones() -> None:
    assert caption_metrics(CAPTIONS, REFERENCES) == pytest.approx(STORED, rel=1e-9)


def test_values_of_each_image_are_the_stored_ones() -> None:
    hypotheses = [caption_tokens(caption) for caption in CAPTIONS]
    references = [[caption_tokens(reference) for reference in of_image] for of_image in REFERENCES]
    np.testing.assert_allclose(rouge_l(hypotheses, references), STORED_ROUGE_L, rtol=1e-9)
    np.testing.assert_allclose(CiderD.of(references).score(range(6), hypotheses), STORED_CIDER_D, rtol=1e-9)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The reference evaluation's scorers; they need neither Java nor pycocotools."""
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed (extra captions-reference)")
    names = [("bleu.bleu", "Bleu"), ("rouge.rouge", "Rouge"), ("cider.cider", "Cider")]
    return {name: getattr(importlib.import_module(f"pycocoevalcap.{path}"), name) for path, name in names}


def _as_text(rows: Sequence[Sequence[Sequence[str]]]) -> dict[int, list[str]]:
    return {row: [" ".join(tokens) for tokens in texts] for row, texts in enumerate(rows)}


@patient
@given(corpus=corpora())
@example(corpus=Corpus([[]], [[["a"]]]))  # nothing but an empty caption
@example(corpus=Corpus([["a"], ["a"]], [[["a"]], [["a"]]]))  # the only n-gram is in every image
@example(corpus=Corpus([["z", "z"], ["a"]], [[[], ["a"]], [[]]]))  # no match, empty references
@example(corpus=Corpus([["a", "b", "a", "b", "a", "b"], []], [[["a", "b", "a", "b"]], [["c"], ["a"] * 9]]))  # repeats
def test_metrics_are_those_of_the_reference(corpus: Corpus, reference: dict[str, Any]) -> None:
    texts, captions = _as_text(corpus.references), _as_text([[tokens] for tokens in corpus.hypotheses])
    bleu, _ = reference["Bleu"](4).compute_score(texts, captions, verbose=0)
    np.testing.assert_allclose(corpus_bleu(*corpus), bleu, rtol=1e-9, atol=1e-12)
    _, rouge = reference["Rouge"]().compute_score(texts, captions)
    np.testing.assert_allclose(rouge_l(*corpus), rouge, rtol=1e-9, atol=1e-12)
    mean, cider = reference["Cider"]().compute_score(texts, captions)
    ours = CiderD.of(corpus.references).score(range(len(cider)), corpus.hypotheses)
    np.testing.assert_allclose(ours, cider, rtol=1e-9, atol=1e-12)
    assert metrics_of_tokens(*corpus) == pytest.approx(
        {
            **{f"bleu{order}": 100 * value for order, value in enumerate(bleu, start=1)},
            "rouge_l": np.mean(rouge),
            "cider_d": mean,
        },
        rel=1e-9,
        abs=1e-10,
    )


@patient
@given(corpus=corpora(), data=st.data())
def test_the_order_of_images_and_references_is_nobodys_business(corpus: Corpus, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(corpus.hypotheses))))
    shuffled = [data.draw(st.permutations(corpus.references[row])) for row in order]
    found = metrics_of_tokens([corpus.hypotheses[row] for row in order], shuffled)
    assert found == pytest.approx(metrics_of_tokens(*corpus), rel=1e-9, abs=1e-12)


@patient
@given(corpus=corpora(min_images=2, min_length=1, max_references=1))
def test_nothing_scores_above_the_reference_itself(corpus: Corpus) -> None:
    """With one reference an image; among several, a caption between them can be nearer to all than any of them."""
    copied = metrics_of_tokens([of_image[0] for of_image in corpus.references], corpus.references)
    others = metrics_of_tokens(*corpus)
    assert copied["bleu1"] == pytest.approx(100)
    assert copied["rouge_l"] == pytest.approx(1)
    assert all(others[name] <= copied[name] + 1e-9 for name in ("bleu1", "rouge_l", "cider_d"))
    if all(len(of_image[0]) >= 4 for of_image in corpus.references):
        # Without a 4-gram in the captions its precision is a constant of the metric, not a match.
        assert copied["bleu4"] == pytest.approx(100)


@patient
@given(corpus=corpora())
def test_numbers_score_as_the_words_they_stand_for(corpus: Corpus) -> None:
    """Training has numbers of a vocabulary, evaluation has words."""
    numbers = [[ord(token) for token in tokens] for tokens in corpus.hypotheses]
    references = [[[ord(token) for token in tokens] for tokens in of_image] for of_image in corpus.references]
    assert metrics_of_tokens(numbers, references) == pytest.approx(metrics_of_tokens(*corpus), rel=1e-12, abs=1e-15)


def test_what_cannot_be_scored_is_said() -> None:
    with pytest.raises(ValueError, match="got 1 captions and the references of 2 images"):
        caption_metrics(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="at least one"):
        caption_metrics([], [])
    with pytest.raises(ValueError, match="Image 1 has no reference"):
        caption_metrics(["a", "b"], [["a"], []])

"""CIDEr-D as a reward: fixed document frequencies, any selection of images, fast."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.captioning.scores import CiderD
from tests.apps.captioning.scores.corpora import Corpus, corpora

patient = settings(deadline=None, max_examples=60)


@patient
@given(corpus=corpora(), data=st.data())
def test_a_caption_scores_the_same_in_any_company(corpus: Corpus, data: st.DataObject) -> None:
    """Contract 2 for the reward: alone, repeated or beside others, the images' order included."""
    cider = CiderD.of(corpus.references)
    num = len(corpus.hypotheses)
    together = cider.score(range(num), corpus.hypotheses)
    rows = data.draw(st.lists(st.integers(0, num - 1), max_size=8))
    found = cider.score(rows, [corpus.hypotheses[row] for row in rows])
    np.testing.assert_allclose(found, together[rows], rtol=1e-12, atol=1e-15)


@patient
@given(corpus=corpora(), data=st.data())
def test_an_image_alone_scores_as_within_its_corpus_with_fixed_frequencies(corpus: Corpus, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(corpus.hypotheses) - 1))
    within = CiderD.of(corpus.references).score([row], [corpus.hypotheses[row]])
    alone = CiderD.of([corpus.references[row]], documents=corpus.references).score([0], [corpus.hypotheses[row]])
    np.testing.assert_allclose(alone, within, rtol=1e-12, atol=1e-15)


def test_frequencies_are_those_of_the_documents() -> None:
    """By hand: three documents, "a" in two, "b" in one, "c" in none."""
    documents = [[["a"], ["a", "a"]], [["a"], ["b"]], [["d"]]]
    idf = {"a": np.log(3 / 2), "b": np.log(3), "c": np.log(3)}
    cider = CiderD.of([[["a", "b"], ["c"]]], documents=documents)
    # Only single tokens match: a quarter of their cosine, times what the lengths cost, mean over both references.
    against_first = idf["a"] ** 2 / (idf["a"] * np.hypot(idf["a"], idf["b"])) * np.exp(-(1**2) / 72)
    assert cider.score([0], [["a"]]) == pytest.approx(10 * against_first / 4 / 2, rel=1e-12)
    assert cider.score([0], [["c"]]) == pytest.approx(10 * 1 / 4 / 2, rel=1e-12)
    assert cider.score([0], [["x"]]) == 0


def test_repeating_a_word_does_not_pay() -> None:
    """The D of CIDEr-D: counts are clipped, and another length costs."""
    cider = CiderD.of([[["a", "dog", "runs"]], [["a", "cat", "sits"]]])
    once, thrice = cider.score([0, 0], [["a", "dog", "runs"], ["dog"] * 3])
    assert thrice < once


def test_no_captions_have_no_scores() -> None:
    assert CiderD.of([[["a"]]]).score([], []).shape == (0,)


def test_what_cannot_be_prepared_is_said() -> None:
    with pytest.raises(ValueError, match="Image 1 has no reference"):
        CiderD.of([[["a"]], []])
    with pytest.raises(ValueError, match="documents has no image"):
        CiderD.of([[["a"]]], documents=[])


def test_it_keeps_up_with_training() -> None:
    """A reward is computed in every step: 3,000 captions a second on one core, of batches of 64 images with 5 samples."""
    draw = random.Random(0)
    words = range(2_000)
    weights = [1 / (word + 1) for word in words]
    references = [[draw.choices(words, weights, k=11) for _ in range(5)] for _ in range(500)]
    cider = CiderD.of(references)
    rows = [draw.randrange(500) for _ in range(320)]
    hypotheses = [draw.choices(words, weights, k=11) for _ in rows]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        cider.score(rows, hypotheses)
        seconds.append(time.process_time() - start)
    assert len(rows) / min(seconds) > 3_000

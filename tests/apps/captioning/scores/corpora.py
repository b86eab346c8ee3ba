"""Corpora of tokens for the tests of all metrics."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st


class Corpus(NamedTuple):
    """Captions and their references, as tokens."""

    hypotheses: list[list[str]]
    references: list[list[list[str]]]


@st.composite
def corpora(draw: st.DrawFn, *, min_images: int = 1, min_length: int = 0, max_references: int = 5) -> Corpus:
    """A few words only, so that n-grams repeat and match; the hypotheses know one word more than the references."""
    words = "abcdefgh"[: draw(st.integers(1, 8))]
    num_images = draw(st.integers(min_images, 6))
    reference = st.lists(st.sampled_from(words), min_size=min_length, max_size=10)
    hypothesis = st.lists(st.sampled_from(words + "z"), max_size=12)
    references = [draw(st.lists(reference, min_size=1, max_size=max_references)) for _ in range(num_images)]
    # The reference evaluation cannot count a corpus without a single word.
    references[0][0] = references[0][0] or ["a"]
    return Corpus([draw(hypothesis) for _ in range(num_images)], references)

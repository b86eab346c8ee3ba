"""Flat arrays of sentences against lists of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.text import BOS, EOS, PAD, TokenArrays

sentences = st.lists(st.lists(st.integers(4, 90), max_size=6), max_size=8)


def listed(arrays: TokenArrays) -> list[list[int]]:
    return [arrays[index].tolist() for index in range(len(arrays))]


@given(sentences=sentences, more=sentences, data=st.data())
def test_they_hold_what_lists_hold(sentences: list[list[int]], more: list[list[int]], data: st.DataObject) -> None:
    arrays = TokenArrays.of(sentences)
    assert listed(arrays) == sentences
    assert arrays.lengths.tolist() == list(map(len, sentences))
    assert listed(TokenArrays.concatenated([arrays, TokenArrays.of(more)])) == sentences + more
    rows = data.draw(st.lists(st.integers(0, len(sentences) - 1), max_size=9)) if sentences else []
    assert listed(arrays.take(np.array(rows, np.int64))) == [sentences[row] for row in rows]


@given(sentences=sentences, begins=st.booleans(), ends=st.booleans())
def test_padding_stands_behind_each_sentence(sentences: list[list[int]], begins: bool, ends: bool) -> None:
    before, after = ([BOS] if begins else []), ([EOS] if ends else [])
    whole = [[*before, *sentence, *after] for sentence in sentences]
    size = max(map(len, whole), default=len(before) + len(after))
    padded = TokenArrays.of(sentences).padded(before=BOS if begins else None, after=EOS if ends else None, padding=PAD)
    assert padded.dtype == np.int64
    assert padded.shape == (len(sentences), size)
    assert padded.tolist() == [[*sentence, *[PAD] * (size - len(sentence))] for sentence in whole]

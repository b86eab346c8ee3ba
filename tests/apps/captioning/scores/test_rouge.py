"""The longest common subsequence in bits is that of the table, and texts without a word have a defined score."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.captioning.scores.rouge import longest_common_subsequence, rouge_l

patient = settings(deadline=None, max_examples=60)

tokens = st.lists(st.integers(0, 4), max_size=80)


@patient
@given(first=tokens, second=tokens)
def test_the_common_subsequence_is_as_long_as_the_table_says(first: list[int], second: list[int]) -> None:
    """Beyond 64 tokens too, where a machine word would end."""
    above = [0] * (len(first) + 1)
    for token in second:
        row = [0]
        for place, other in enumerate(first):
            row.append(above[place] + 1 if token == other else max(above[place + 1], row[place]))
        above = row
    assert longest_common_subsequence(first, second) == above[-1]


def test_a_text_without_a_word_equals_another_such_text_only() -> None:
    assert rouge_l([[], [], ["a"]], [[["a"]], [["a"], []], [[]]]).tolist() == [0, 1, 0]


def test_precision_and_recall_may_be_of_two_references() -> None:
    """As in the reference evaluation: all of the caption stands in the first, all of the second in the caption."""
    assert rouge_l([["a", "b", "c"]], [[["a", "b", "c", "d", "e"], ["b"]]]).tolist() == [1.0]

"""Counts of classes, and weights that keep the scale of the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.videos.balance import WEIGHT_KINDS, ClassBalance, WeightKind, class_weights

some_counts = arrays(np.int64, st.integers(1, 30), elements=st.integers(1, 100_000))


@given(counts=some_counts, kind=st.sampled_from(WEIGHT_KINDS), beta=st.floats(0, 0.999999))
def test_weights_are_one_on_average_over_clips_and_rare_classes_weigh_more(
    counts: np.ndarray, kind: WeightKind, beta: float
) -> None:
    weights = class_weights(counts, kind, beta=beta)
    assert weights.shape == counts.shape
    assert (weights > 0).all()
    assert (counts * weights).sum() / counts.sum() == pytest.approx(1)
    order = np.argsort(counts)
    assert (np.diff(weights[order]) <= 1e-12).all()


@given(counts=some_counts)
def test_inverse_frequency_makes_classes_count_alike(counts: np.ndarray) -> None:
    total = counts * class_weights(counts, "inverse_frequency")
    assert total == pytest.approx(np.full(len(counts), counts.sum() / len(counts)))


@given(counts=arrays(np.int64, st.integers(1, 9), elements=st.integers(1, 500)))
def test_effective_number_lies_between_no_weights_and_inverse_frequency(counts: np.ndarray) -> None:
    """Cui et al., 2019: beta = 0 weighs nothing, beta -> 1 the inverse frequency."""
    assert class_weights(counts, "effective_number", beta=0) == pytest.approx(np.ones(len(counts)))
    near = class_weights(counts, "effective_number", beta=1 - 1e-12)
    assert near == pytest.approx(class_weights(counts, "inverse_frequency"), rel=1e-6)


def test_effective_number_by_the_formula() -> None:
    counts = np.array([1, 10, 1000])
    raw = [(1 - 0.99) / (1 - 0.99**number) for number in counts]
    scale = counts.sum() / (counts * raw).sum()
    assert class_weights(counts, "effective_number", beta=0.99) == pytest.approx(np.array(raw) * scale)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes \[1\]"):
        class_weights(np.array([3, 0]), "inverse_frequency")
    with pytest.raises(ValueError, match="at least one clip"):
        class_weights(np.array([], np.int64), "inverse_frequency")
    with pytest.raises(ValueError, match="inverse_frequency, effective_number, got 'none'"):
        class_weights(np.array([3]), "none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="below 1, got 1"):
        class_weights(np.array([3]), "effective_number", beta=1.0)
    with pytest.raises(ValueError, match=r"2 classes, got 1 \(train\)"):
        ClassBalance(("a", "b"), {"train": np.array([1])})


def test_the_table() -> None:
    balance = ClassBalance(("walk", "jump", "sit"), {"train": np.array([2, 10, 4]), "test": np.array([1, 0, 3])})
    assert balance.smallest("train") == ("walk", 2)
    assert balance.largest("train") == ("jump", 10)
    assert (balance.ratio("train"), balance.ratio("test")) == (5, math.inf)
    assert balance.majority_share("train") == pytest.approx(10 / 16)
    assert balance.table() == (
        "class  train  test\n"
        "jump      10     0\n"
        "sit        4     3\n"
        "walk       2     1\n"
        "all       16     4\n"
        "train: 2 (walk) to 10 (jump) clips a class, imbalance 5; the largest class alone is 62.5%.\n"
        "test: 0 (jump) to 3 (sit) clips a class, imbalance inf; the largest class alone is 75.0%."
    )

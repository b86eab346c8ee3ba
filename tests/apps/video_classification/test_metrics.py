"""Accuracy of videos: by their definitions, and over several clips of a video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.video_classification.metrics import Classified, classified


@given(st.integers(2, 8), st.integers(1, 20), st.integers(0, 1000))
def test_metrics_are_what_they_are_called(num_classes: int, num_videos: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_videos)
    probabilities = generator.dirichlet(np.ones(num_classes), size=num_videos)
    found = Classified(labels, probabilities)
    metrics = found.metrics()
    best = [sorted(range(num_classes), key=lambda one: -row[one]) for row in probabilities]
    assert metrics["top1"] == pytest.approx(
        np.mean([order[0] == label for order, label in zip(best, labels, strict=True)])
    )
    if num_classes > 5:
        in_five = [label in order[:5] for order, label in zip(best, labels, strict=True)]
        assert metrics["top5"] == pytest.approx(np.mean(in_five))
    else:
        assert "top5" not in metrics
    each = [
        np.mean([order[0] == label for order, label in zip(best, labels, strict=True) if label == one])
        for one in set(labels.tolist())
    ]
    assert metrics["class_top1"] == pytest.approx(np.mean(each))
    assert found.confusion().sum() == num_videos
    assert found.confusion().trace() == round(metrics["top1"] * num_videos)


def test_equals_are_no_gift() -> None:
    """A network that gives every class the same is right where the first class is."""
    found = Classified(np.arange(6), np.full((6, 6), 1 / 6))
    assert found.metrics() == {
        "top1": pytest.approx(1 / 6),
        "top5": pytest.approx(5 / 6),
        "class_top1": pytest.approx(1 / 6),
    }


def test_clips_of_a_video_are_averaged_whatever_their_order() -> None:
    """By probability: one clip that is sure outweighs one that is not."""
    rows = {0: [0.9, 0.1], 1: [0.3, 0.7], 2: [0.2, 0.8], 3: [0.45, 0.55], 4: [0.05, 0.95]}
    logs = {clip: np.log(row).tolist() for clip, row in rows.items()}
    video_of, labels = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 0])
    found = classified(logs, video_of=video_of, labels=labels)
    assert found.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.probabilities, [[0.6, 0.4], [0.2, 0.8], [0.25, 0.75]])
    other = classified({clip: logs[clip] for clip in (4, 2, 0, 3, 1)}, video_of=video_of, labels=labels)
    np.testing.assert_allclose(other.probabilities, found.probabilities)
    some = classified({3: logs[3], 4: logs[4]}, video_of=video_of, labels=labels)
    assert some.labels.tolist() == [0]

"""What is measured of classified videos: each video once, by the mean over its clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

TOP = 5


def written(probability: float) -> float:
    """As a file has it: to a millionth, as further digits differ with what else was in its batch."""
    return round(float(probability), 6)


@dataclass(frozen=True)
class Classified:
    """Videos of known class, and the probability that each class was given."""

    labels: Int64[np.ndarray, "videos"]
    probabilities: Float64[np.ndarray, "videos classes"]

    @property
    def predicted(self) -> Int64[np.ndarray, "videos"]:
        """The likeliest class of each; the first of equals."""
        found: Int64[np.ndarray, "videos"] = self.probabilities.argmax(1)
        return found

    @property
    def is_right(self) -> np.ndarray:
        """Whether the likeliest class is the true one, a bool a video."""
        found: np.ndarray = self.predicted == self.labels
        return found

    def rank(self) -> Int64[np.ndarray, "videos"]:
        """Classes that were given more than the true one; equals before it in the order of classes count."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        found: Int64[np.ndarray, "videos"] = (order == self.labels[:, None]).argmax(1)
        return found

    def confusion(self) -> Int64[np.ndarray, "classes classes"]:
        """Videos of each class (rows) that were taken for each class (columns)."""
        number = self.probabilities.shape[1]
        flat = np.bincount(self.labels * number + self.predicted, minlength=number * number)
        return flat.reshape(number, number).astype(np.int64)

    def accuracy_by_class(self) -> Float64[np.ndarray, "classes"]:
        """Share of the videos of each class that are right; NaN for a class without a video."""
        confusion = self.confusion()
        number = confusion.sum(1)
        return np.where(number > 0, confusion.diagonal() / np.maximum(number, 1), np.nan)

    def metrics(self) -> dict[str, float]:
        """top1, top5 where there are more classes than five, and class_top1: the mean over classes of their top1."""
        rank = self.rank()
        found = {"top1": float((rank < 1).mean())}
        if self.probabilities.shape[1] > TOP:
            found["top5"] = float((rank < TOP).mean())
        found["class_top1"] = float(np.nanmean(self.accuracy_by_class()))
        return found


def classified(
    rows: Mapping[int, Sequence[float]], *, video_of: Int64[np.ndarray, "clips"], labels: Int64[np.ndarray, "videos"]
) -> Classified:
    """The videos that clips belong to.

    Args:
        rows: log-probabilities of the classes, of each clip by its number.
        video_of: the video of each clip.
        labels: class of each video.
    """
    clips = np.fromiter(rows, np.int64, len(rows))
    probabilities = np.exp(np.array(list(rows.values()), np.float64))
    videos, place = np.unique(video_of[clips], return_inverse=True)
    summed = np.zeros((len(videos), probabilities.shape[1]))
    np.add.at(summed, place, probabilities)
    return Classified(labels[videos], summed / np.bincount(place)[:, None])

"""A clip classified as it comes: each frame is looked at once, and what is known of those before it is carried on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from apps.video_classification.classifier import Classifier
from data.videos.growing import ComingFrame
from data.videos.sampling import EveryFrame


@dataclass(frozen=True)
class FrameFound:
    """What a clip shows up to a frame."""

    frame: ComingFrame
    probabilities: Float[np.ndarray, "classes"]
    latency: float
    """Seconds from having the frame to knowing this: transform, encoder, recurrent layers."""


def stride_of(classifier: Classifier, given: int | None) -> int:
    """Distance from one frame that is looked at to the next.

    Args:
        classifier: its sampling says what the network was trained on.
        given: by the user; None = as in training.

    Raises:
        ValueError: training saw frames in a way that cannot be had before a clip has ended.
    """
    if given is not None:
        return given
    sampling = classifier.sampling
    if isinstance(sampling, EveryFrame) and sampling.max_frames is None:
        return sampling.stride
    raise ValueError(
        f"The network was trained on frames by {sampling}, which cannot be chosen before a clip has ended. Say by "
        "--stream_stride which frames it is to see: 1 = every one, 2 = every other ... about as far apart as in training."
    )


def classify_stream(classifier: Classifier, frames: Iterable[ComingFrame], *, stride: int) -> Iterator[FrameFound]:
    """What a clip shows, after every frame that is looked at: equal to classifying it as a whole up to there.

    Args:
        classifier: of a network that reads forward alone.
        frames: as they come.
        stride: look at one of so many.

    Raises:
        ValueError: the network has to have seen the end.
    """
    state = None
    for frame in frames:
        if frame.number % stride:
            continue
        start = time.perf_counter()
        features = classifier.encode(frame.pixels[None])
        with torch.no_grad():
            scores, state = classifier.network.step(features, state)
        probabilities = scores[0].double().softmax(-1).cpu().numpy()
        yield FrameFound(frame, probabilities, time.perf_counter() - start)

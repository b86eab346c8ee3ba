"""The feed-forward baseline: the mean over the frames of a clip, in whatever order they come (notes N1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apps.video_classification.network import ClassificationNetwork, ClipShape, NetworkConfig, without_padding
from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.vision import ImageEncoder, ImageEncoderConfig

_ENCODER = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained", features="pooled")
_HIDDEN = FeedForwardConfig(hidden_sizes=[256], dropout=0.5)


@dataclass(frozen=True, kw_only=True)
class MeanBaseline(NetworkConfig):
    """A network without recurrence: the mean of all frames, region by region, in; scores out."""

    encoder: ImageEncoderConfig = _ENCODER
    feed_forward: FeedForwardConfig = _HIDDEN
    """Hidden layers between the mean and the scores."""

    def build(self, shape: ClipShape, *, load_weights: bool) -> ClassificationNetwork[MeanSoFar]:
        """See the base class."""
        return MeanNetwork(self, shape, load_weights=load_weights)


class MeanSoFar(NamedTuple):
    """What is kept of the frames that have been."""

    sum: Float[Tensor, "batch regions features"]
    num_frames: int


class MeanNetwork(ClassificationNetwork[MeanSoFar]):
    """The order of the frames is lost in their mean; where things are in a frame is not."""

    def __init__(self, config: MeanBaseline, shape: ClipShape, *, load_weights: bool = True) -> None:
        super().__init__()
        self.frames_at_once = config.frames_at_once
        self.encoder = ImageEncoder(config.encoder, load_weights=load_weights)
        height, width = self.encoder.grid_shape(*shape.image_size)
        self.feed_forward = FeedForward(
            config.feed_forward,
            input_size=self.encoder.num_features * height * width,
            output_size=shape.num_classes,
        )

    @property
    def is_causal(self) -> bool:
        """Yes: a mean can be taken of the frames so far."""
        return True

    def _scores(self, means: Tensor) -> Tensor:
        scores: Tensor = self.feed_forward(means.flatten(-2))
        return scores

    def _cast(self, features: Tensor) -> Tensor:
        return features.to(next(self.feed_forward.parameters()).dtype)

    def forward(
        self, features: Float[Tensor, "batch time regions features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch classes"]:
        """See the base class."""
        total = self._cast(without_padding(features, lengths)).sum(1)
        return self._scores(total / lengths[:, None, None].to(total.dtype))

    def scores_over_time(
        self, features: Float[Tensor, "batch time regions features"]
    ) -> Float[Tensor, "batch time classes"]:
        """See the base class."""
        features = self._cast(features)
        num_frames = torch.arange(1, features.shape[1] + 1, device=features.device, dtype=features.dtype)
        return self._scores(features.cumsum(1) / num_frames[:, None, None])

    def step(
        self, features: Float[Tensor, "batch regions features"], state: MeanSoFar | None
    ) -> tuple[Float[Tensor, "batch classes"], MeanSoFar]:
        """See the base class."""
        features = self._cast(features)
        state = MeanSoFar(features, 1) if state is None else MeanSoFar(state.sum + features, state.num_frames + 1)
        return self._scores(state.sum / state.num_frames), state

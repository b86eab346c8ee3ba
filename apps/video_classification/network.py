"""Networks that say what a clip shows: CNN encoder per frame -> recurrent layers -> pooling over time (notes N14, N5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.nn.lengths import check_lengths, valid_steps
from core.nn.vision import ImageEncoder, ImageEncoderConfig

State = TypeVar("State")


class ClipShape(NamedTuple):
    """What a network must know of clips and classes."""

    num_classes: int
    image_size: tuple[int, int]
    """Height and width of a frame, in pixels."""

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> Self:
        """Read off the preprocessing of the data."""
        height, width = preprocessing["image_size"]
        return cls(len(preprocessing["class_names"]), (height, width))


class ClassificationNetwork(nn.Module, ABC, Generic[State]):
    """Encodes every frame once, and scores the classes of clips, as a whole or as they come."""

    encoder: ImageEncoder
    frames_at_once: int | None

    @property
    @abstractmethod
    def is_causal(self) -> bool:
        """Whether clips can be classified as they come: what has been said of a frame never depends on later ones."""

    def encode(
        self, images: Shaped[Tensor, "frames 3 height width"], *, train: bool = False
    ) -> Float[Tensor, "frames regions features"]:
        """What the encoder makes of frames, and all that is known of them afterwards.

        Of an encoder that is never trained it is what a feature cache holds, rounded to float16: with the cache and without,
        in training and in `predict`, a frame has the same features.

        Args:
            images: uint8 RGB, or floating point from 0 to 1; frames of all clips one after the other, without padding.
            train: let gradients reach the weights of the encoder that may be trained.
        """
        train = train and torch.is_grad_enabled()
        with torch.set_grad_enabled(train):
            at_once = self.frames_at_once or max(len(images), 1)
            parts = [self._encode(part, train=train) for part in torch.split(images, at_once)]
        features = torch.cat(parts)
        if self.encoder.config.trainable == "none":
            features = features.half().to(features.dtype)
        return features

    def _encode(self, images: Tensor, *, train: bool) -> Tensor:
        if train and self.frames_at_once is not None:
            # What the frames of other parts left behind is computed again when their gradient is due.
            again: Tensor = checkpoint(self.encoder, images, use_reentrant=False)
            return again
        features: Tensor = self.encoder(images)
        return features

    @abstractmethod
    def forward(
        self, features: Float[Tensor, "batch time regions features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Scores (logits) of the classes of whole clips.

        Args:
            features: of the encoder; what stands in the padding is not read.
            lengths: int64, frames of each clip, at least 1.
        """

    @abstractmethod
    def scores_over_time(
        self, features: Float[Tensor, "batch time regions features"]
    ) -> Float[Tensor, "batch time classes"]:
        """At every frame the scores of the clip up to it; in the padding they are of no clip.

        Raises:
            ValueError: of a network that is not causal.
        """

    @abstractmethod
    def step(
        self, features: Float[Tensor, "batch regions features"], state: State | None
    ) -> tuple[Float[Tensor, "batch classes"], State]:
        """The scores of clips up to their next frame, and what is carried to the one after it.

        Args:
            features: of the next frame of each clip.
            state: what the step before gave; None at the first frame.

        Raises:
            ValueError: of a network that is not causal.
        """


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """A network that classifies clips."""

    encoder: ImageEncoderConfig
    """The convolutional network, and which part of it may be trained."""
    frames_at_once: int | None = None
    """Frames that the encoder works on at once, for memory: in training it then computes them a second time for the gradient
    (Chen et al., arXiv:1604.06174). null: all frames of a batch."""

    def __post_init__(self) -> None:
        if self.frames_at_once is not None and self.frames_at_once < 1:
            raise ValueError(f"model.network.frames_at_once must be at least 1, or null, got {self.frames_at_once}.")

    @abstractmethod
    def build(self, shape: ClipShape, *, load_weights: bool) -> ClassificationNetwork[Any]:
        """The network for clips and classes of that shape.

        Args:
            shape: of the data.
            load_weights: read the encoder's weights, where the config names some; a checkpoint brings its own.

        Raises:
            ValueError: where settings and data do not fit.
        """


def without_padding(
    features: Float[Tensor, "batch time regions features"], lengths: Int[Tensor, "batch"]
) -> Float[Tensor, "batch time regions features"]:
    """Zeros in the padding: a layer that works frame by frame would take a NaN from there to the gradient of its weights.

    Raises:
        ValueError: where the lengths do not fit.
    """
    check_lengths(lengths, of=features, at_least=1)
    return features.masked_fill(~valid_steps(lengths, features.shape[1])[..., None, None], 0.0)


def check_share(value: float, *, name: str) -> None:
    """Raises ValueError where a probability of dropout is none."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"model.network.{name} must be in [0, 1), got {value}.")


def not_causal() -> ValueError:
    """Says why clips cannot be classified as they come."""
    return ValueError(
        "This network reads clips from their end too (bidirectional: true), so nothing can be said before they end. Train one "
        "with bidirectional: false to classify frame by frame."
    )

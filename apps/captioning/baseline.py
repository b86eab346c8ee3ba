"""The feed-forward baseline: a pooled image in, a word for every place of the caption out (notes N1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apps.captioning.network import SPECIAL, CaptioningNetwork, CaptionShape, NetworkConfig
from core.nn.feed_forward import FeedForwardConfig
from core.nn.losses import MeanOver, SummedLoss
from core.nn.placewise import PlacewiseWords
from core.nn.search import BeamConfig, Hypotheses, SearchConfig
from core.nn.vision import ImageEncoder, ImageEncoderConfig
from data.captioning import CaptionBatch

_ENCODER = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained")
_HIDDEN = FeedForwardConfig(hidden_sizes=[512])


@dataclass(frozen=True, kw_only=True)
class PooledBaseline(NetworkConfig):
    """A network without recurrence: the mean over the image and the place of a word give that word."""

    encoder: ImageEncoderConfig = _ENCODER
    """The convolutional network."""
    place_size: int = 256
    """Width of an embedded place."""
    feed_forward: FeedForwardConfig = _HIDDEN
    """Hidden layers between them and the scores."""

    @property
    def image_encoder(self) -> ImageEncoderConfig:
        """See the base class."""
        return self.encoder

    def build(self, shape: CaptionShape, *, load_weights: bool) -> CaptioningNetwork:
        """See the base class."""
        return PooledNetwork(self, shape, load_weights=load_weights)


class PooledNetwork(CaptioningNetwork):
    """Every place of the caption for itself: it sees neither where things are nor its own other words."""

    def __init__(self, config: PooledBaseline, shape: CaptionShape, *, load_weights: bool = True) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config.encoder, load_weights=load_weights)
        self.words = PlacewiseWords(
            config.feed_forward,
            input_size=self.encoder.num_features,
            place_size=config.place_size,
            num_places=shape.max_length + 1,
            vocabulary_size=shape.vocabulary_size,
        )

    @property
    def has_attention(self) -> bool:
        """No."""
        return False

    @property
    def has_search(self) -> bool:
        """No: every word stands for itself."""
        return False

    @property
    def vocabulary_weights(self) -> tuple[str, ...]:
        """See the base class."""
        return "words.output.weight", "words.output.bias"

    def forward(self, features: Float[Tensor, "batch regions features"]) -> Float[Tensor, "batch features"]:
        """The image as one vector: the mean over its regions."""
        return features.to(self.words.output.weight.dtype).mean(1)

    def loss(
        self,
        features: Float[Tensor, "batch regions features"],
        batch: CaptionBatch,
        *,
        mean: MeanOver,
        label_smoothing: float = 0.0,
        true_probability: float = 1.0,
        doubly_stochastic: float = 0.0,
    ) -> SummedLoss:
        """See the base class; there is neither feedback nor attention."""
        assert true_probability == 1.0, "this network reads no caption"
        assert not doubly_stochastic, "this network attends to nothing"
        pooled = self(features)
        return self.words.loss(
            pooled.repeat_interleave(len(batch.captions) // len(pooled), dim=0),
            batch.labels,
            batch.lengths,
            mean=mean,
            weight=batch.row_weight,
            label_smoothing=label_smoothing,
        )

    @torch.no_grad()
    def caption(
        self,
        features: Float[Tensor, "batch regions features"],
        *,
        config: SearchConfig,
        keys: Int[Tensor, "batch"] | None = None,
    ) -> Hypotheses:
        """See the base class; there is one hypothesis, whatever the beam."""
        assert isinstance(config, BeamConfig), "this network has one caption an image, and nothing to draw"
        lengths = torch.full((len(features),), features.shape[1], dtype=torch.int64, device=features.device)
        return self.words.generate(self(features), lengths, config=config, special=SPECIAL)

    @torch.no_grad()
    def score(
        self, features: Float[Tensor, "batch regions features"], given: Sequence[Sequence[int]], *, config: BeamConfig
    ) -> Hypotheses:
        """See the base class; a score is a log-probability, as in `caption`."""
        return self.words.score(self(features), given, special=SPECIAL)

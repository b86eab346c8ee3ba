"""Networks that describe images: CNN encoder -> RNN decoder (notes N16), and the feed-forward baseline beside it (N1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from core.nn.attention import Additive
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.losses import MeanOver, SummedLoss
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig, Hypotheses, SearchConfig, SpecialTokens, score, search
from core.nn.vision import ImageEncoder, ImageEncoderConfig
from data.captioning import CaptionBatch
from data.text import BOS, EOS, PAD, UNK

Summary = Literal["mean", "mean_max"]

SPECIAL = SpecialTokens(bos=BOS, eos=EOS, pad=PAD, forbidden=(UNK,))


class CaptionShape(NamedTuple):
    """What a network must know of images and captions."""

    vocabulary_size: int
    """Words, special tokens included."""
    max_length: int
    """Most words of a training caption."""
    image_size: tuple[int, int]
    """Height and width, in pixels."""

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> Self:
        """Read off the preprocessing of the data."""
        height, width = preprocessing["image_size"]
        vocabulary_size = len(preprocessing["text"]["pieces"]) + len((PAD, BOS, EOS, UNK))
        return cls(vocabulary_size, preprocessing["max_length"], (height, width))


class CaptioningNetwork(nn.Module, ABC):
    """Encodes images once, and gives the loss of their captions, or new captions."""

    encoder: ImageEncoder

    @property
    @abstractmethod
    def has_attention(self) -> bool:
        """Whether captions come with weights over the regions of their image."""

    @property
    @abstractmethod
    def has_search(self) -> bool:
        """Whether a word depends on those before it, so that there is something to search."""

    @property
    @abstractmethod
    def vocabulary_weights(self) -> tuple[str, ...]:
        """Names of the weights that have a row for each word of the vocabulary."""

    def encode(
        self, images: Shaped[Tensor, "batch 3 height width"], *, train: bool = False
    ) -> Float[Tensor, "batch regions features"]:
        """What the encoder makes of images, and all that is known of them afterwards.

        Of an encoder that is never trained it is what a feature cache holds, rounded to float16: with the cache and without,
        in training and in `predict`, an image has the same features.

        Args:
            images: uint8 RGB, or floating point from 0 to 1.
            train: let gradients reach the weights of the encoder that may be trained.
        """
        with torch.set_grad_enabled(train and torch.is_grad_enabled()):
            features: Tensor = self.encoder(images)
        if self.encoder.config.trainable == "none":
            features = features.half().to(features.dtype)
        return features

    @abstractmethod
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
        """Cross-entropy of the words of all captions and of their ends.

        Args:
            features: what `encode` gave for the images of the batch.
            batch: images and captions.
            mean: token, or sequence (notes N4).
            label_smoothing: share of each word's target that is spread over the vocabulary.
            true_probability: how often the decoder reads the true word (notes N7).
            doubly_stochastic: how much of `core.nn.doubly_stochastic` is added.
        """

    @abstractmethod
    def caption(
        self,
        features: Float[Tensor, "batch regions features"],
        *,
        config: SearchConfig,
        keys: Int[Tensor, "batch"] | None = None,
    ) -> Hypotheses:
        """Captions, best first.

        Args:
            features: what `encode` gave.
            config: which search.
            keys: what names each image, for sampling alone (`core.nn.search`).
        """

    @abstractmethod
    def score(
        self, features: Float[Tensor, "batch regions features"], given: Sequence[Sequence[int]], *, config: BeamConfig
    ) -> Hypotheses:
        """Given captions, one an image, with what a search that found them would say of them.

        Args:
            features: what `encode` gave.
            given: words of each caption, without begin and end.
            config: its penalties make the score; nothing else of it is read.
        """


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """A network that describes images."""

    @property
    @abstractmethod
    def image_encoder(self) -> ImageEncoderConfig:
        """The convolutional network."""

    @abstractmethod
    def build(self, shape: CaptionShape, *, load_weights: bool) -> CaptioningNetwork:
        """The network for images and captions of that shape.

        Args:
            shape: of the data.
            load_weights: read the encoder's weights, where the config names some; a checkpoint brings its own.

        Raises:
            ValueError: where settings and data do not fit.
        """


_ENCODER = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained")
_DECODER = DecoderConfig(
    recurrent=RecurrentConfig(kind="lstm", hidden_size=512),
    context=AttentionBefore(attention=Additive(num_hidden=256), gated=True),
    readout="deep",
)


@dataclass(frozen=True, kw_only=True)
class RecurrentCaptioner(NetworkConfig):
    """Encoder, context or attention, decoder; by default that of Xu et al., "Show, Attend and Tell", ICML 2015."""

    encoder: ImageEncoderConfig = _ENCODER
    """The convolutional network, and which part of it may be trained."""
    decoder: DecoderConfig = _DECODER
    """Recurrent layers over the caption, how the image reaches them, and what scores are made of."""
    region_size: int | None = 512
    """Width of a region as attention reads it: a linear layer of the encoder's features, layer norm, dropout. null leaves the
    linear layer out, for an encoder that is trained from the start and can give what is needed itself."""
    region_dropout: float = 0.0
    """Probability of zeroing a unit of a region, in [0, 1)."""
    region_places: bool = False
    """Add a learned vector for each region's place in the grid: what lies where is then in what attention sees."""
    summary: Summary = "mean"
    """The image as one vector, for the decoder's first state and whatever else reads it: mean over the regions, or mean_max,
    their mean and their largest values side by side, in which small things are not lost."""
    embedding_size: int = 512
    """Width of an embedded word."""
    embedding_dropout: float = 0.0
    """Probability of zeroing a unit of an embedded word, in [0, 1)."""
    tie_embeddings: bool = False
    """Score with the words' embeddings (Press & Wolf, EACL 2017)."""

    def __post_init__(self) -> None:
        if self.region_size is not None and self.region_size < 1:
            raise ValueError(f"model.network.region_size must be at least 1, or null, got {self.region_size}.")
        if self.summary not in get_args(Summary):
            raise ValueError(
                f"model.network.summary must be one of {', '.join(get_args(Summary))}, got {self.summary!r}."
            )
        if not 0.0 <= self.region_dropout < 1.0:
            raise ValueError(f"model.network.region_dropout must be in [0, 1), got {self.region_dropout}.")
        if self.region_places and self.decoder.context.attention_config is None:
            raise ValueError(
                f"model.network.region_places is true, but {type(self.decoder.context).__name__} attends to no region: the "
                "mean over all of them has no place. Leave it out."
            )

    @property
    def image_encoder(self) -> ImageEncoderConfig:
        """See the base class."""
        return self.encoder

    def build(self, shape: CaptionShape, *, load_weights: bool) -> CaptioningNetwork:
        """See the base class."""
        return RecurrentCaptioningNetwork(self, shape, load_weights=load_weights)


class RecurrentCaptioningNetwork(CaptioningNetwork):
    """CNN encoder -> regions and their mean -> RNN decoder."""

    def __init__(self, config: RecurrentCaptioner, shape: CaptionShape, *, load_weights: bool = True) -> None:
        super().__init__()
        self.summary: Summary = config.summary
        self.encoder = ImageEncoder(config.encoder, load_weights=load_weights)
        # Not a ReLU, which a large learning rate can leave at 0 for good; features have been through one already.
        region_size = config.region_size or self.encoder.num_features
        self.regions = nn.Sequential(
            nn.Identity() if config.region_size is None else nn.Linear(self.encoder.num_features, region_size),
            nn.LayerNorm(region_size),
            nn.Dropout(config.region_dropout),
        )
        self.places: nn.Parameter | None = None
        if config.region_places:
            height, width = self.encoder.grid_shape(*shape.image_size)
            self.places = nn.Parameter(0.1 * torch.randn(height * width, region_size))
        self.decoder = TokenDecoder(
            TokenDecoderConfig(
                decoder=config.decoder,
                embedding_size=config.embedding_size,
                embedding_dropout=config.embedding_dropout,
                tie_embeddings=config.tie_embeddings,
            ),
            vocabulary_size=shape.vocabulary_size,
            source=SourceShape(
                output_size=region_size,
                summary_size=region_size * (2 if config.summary == "mean_max" else 1),
            ),
        )

    @property
    def has_attention(self) -> bool:
        """See the base class."""
        return self.decoder.decoder.attention is not None

    @property
    def has_search(self) -> bool:
        """See the base class."""
        return True

    @property
    def vocabulary_weights(self) -> tuple[str, ...]:
        """See the base class."""
        return "decoder.embedding.weight", "decoder.output.weight", "decoder.output.bias"

    def start(self, features: Float[Tensor, "batch regions features"]) -> CarriedState:
        """The decoder's state before its first word: what a search begins with."""
        regions = self.regions(features.to(self.decoder.output.weight.dtype))
        if self.places is not None:
            if len(self.places) != regions.shape[1]:
                raise ValueError(
                    f"This network has places for {len(self.places)} regions, got images of {regions.shape[1]}: with "
                    "region_places images must have the size of those in training."
                )
            regions = regions + self.places
        summary = regions.mean(1)
        if self.summary == "mean_max":
            summary = torch.cat([summary, regions.amax(1)], dim=-1)
        return self.decoder.start(Source(regions, num_regions(regions), summary))

    def forward(
        self, features: Float[Tensor, "batch regions features"], captions: Int[Tensor, "rows time"]
    ) -> Float[Tensor, "rows time vocabulary"]:
        """Scores of captions that are read up to the word before, as many for each image as for every other."""
        logits: Tensor = self.decoder(captions, None, _each(self.start(features), len(captions))).logits
        return logits

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
        """See the base class."""
        return self.decoder.loss(
            batch.captions,
            batch.lengths,
            _each(self.start(features), len(batch.captions)),
            labels=batch.labels,
            mean=mean,
            weight=batch.row_weight,
            label_smoothing=label_smoothing,
            true_probability=true_probability,
            doubly_stochastic=doubly_stochastic,
        )

    def sample_loss(
        self,
        features: Float[Tensor, "batch regions features"],
        samples: Hypotheses,
        *,
        weight: Float[Tensor, "rows"],
    ) -> Float[Tensor, ""]:
        """-sum of the log-probabilities with which captions were drawn, each times its weight: what policy gradients descend.

        Args:
            features: what `encode` gave.
            samples: captions of each image.
            weight: one number a caption, those of an image together.
        """
        labels, lengths = samples.tokens.flatten(0, 1), samples.lengths.flatten()
        begin = torch.full_like(labels[:, :1], SPECIAL.bos)
        return self.decoder.loss(
            torch.cat([begin, labels[:, :-1]], dim=1),
            lengths,
            _each(self.start(features), len(labels)),
            labels=labels,
            mean="token",
            weight=weight,
            # Drawn from the other words alone. Were these in the sum, nothing would keep them from having nearly all of it.
            impossible=SPECIAL.never_generated,
        ).sum

    def caption(
        self,
        features: Float[Tensor, "batch regions features"],
        *,
        config: SearchConfig,
        keys: Int[Tensor, "batch"] | None = None,
    ) -> Hypotheses:
        """See the base class."""
        with torch.no_grad():
            state = self.start(features)
        return search(
            self.decoder,
            state=state,
            config=config,
            special=SPECIAL,
            source_lengths=num_regions(features),
            keys=keys,
        )

    def score(
        self, features: Float[Tensor, "batch regions features"], given: Sequence[Sequence[int]], *, config: BeamConfig
    ) -> Hypotheses:
        """See the base class."""
        with torch.no_grad():
            state = self.start(features)
        return score(
            self.decoder,
            state=state,
            given=given,
            config=config,
            special=SPECIAL,
            source_lengths=num_regions(features),
        )


def num_regions(features: Float[Tensor, "batch regions features"]) -> Int[Tensor, "batch"]:
    """Regions of each image: the length of what a search reads."""
    return torch.full((len(features),), features.shape[1], dtype=torch.int64, device=features.device)


def _each(state: CarriedState, num_rows: int) -> CarriedState:
    """The state of so many captions an image: the image itself is there once."""
    num_images = state.num_rows
    if num_rows == num_images:
        return state
    rows = torch.arange(num_images, device=state.recurrent.hidden.device)
    return state.select(rows.repeat_interleave(num_rows // num_images))

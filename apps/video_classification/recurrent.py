"""The recurrent classifiers: a vector a frame (LRCN), or a map a frame (ConvLSTM, ConvGRU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from apps.video_classification.network import (
    ClassificationNetwork,
    ClipShape,
    NetworkConfig,
    check_share,
    not_causal,
    without_padding,
)
from core.nn.cells import RecurrentState
from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.dropout import LockedDropout
from core.nn.moments import NUM_MOMENTS, MomentsSoFar, moments, moments_of_prefixes, moments_step
from core.nn.pooling import PoolingKind, build_pooling
from core.nn.recurrence.convolutional_cells import ConvState
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.running_pooling import PooledSoFar, pool_prefixes, pool_step
from core.nn.vision import ImageEncoder, ImageEncoderConfig

Regions = Literal["mean", "flat"]

_POOLED = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained", features="pooled")
_GRID = ImageEncoderConfig(backbone="efficientnet_lite0", weights="pretrained")
_GRU = RecurrentConfig(kind="gru", hidden_size=256)
_CONV_GRU = ConvRecurrentConfig(kind="conv_gru", hidden_channels=64)


@dataclass(frozen=True, kw_only=True)
class RecurrentClassifier(NetworkConfig):
    """A vector a frame, recurrent layers over them: Donahue et al., "Long-term Recurrent Convolutional Networks", CVPR 2015."""

    encoder: ImageEncoderConfig = _POOLED
    regions: Regions = "mean"
    """How the regions of a frame become one vector: their mean, or flat, side by side, which keeps where things are."""
    frame_size: int | None = None
    """Width of a frame's vector: layer norm of the encoder's features, whose scale differs from encoder to encoder, a linear
    layer, layer norm and dropout; null = the encoder's features as they are, normalised."""
    feature_dropout: float = 0.0
    """Probability of zeroing one of the numbers that the encoder gives of a frame, the same one in all frames of a clip, in
    [0, 1): against learning by heart the features of few clips, of which there are many."""
    frame_dropout: float = 0.0
    """Probability of zeroing a unit of the frames' vectors, the same one in all frames of a clip, in [0, 1): drawn anew for
    each frame, differences would be those of what is zeroed."""
    differences: bool | list[int] = False
    """Beside each frame's vector what it differs by from the one before: what moves. [1, 8]: from the one before and from the
    eighth before it, each a part of its own, so that slow movements are seen too. Where none is so far back: from the first."""
    recurrent: RecurrentConfig = _GRU
    """Layers over the frames."""
    pooling: PoolingKind = "mean"
    """How outputs over time become one vector: last, mean, max or attention (notes N5)."""
    moments: bool = False
    """Beside that vector mean, standard deviation and slope over time of the frames' vectors, around the recurrent layers, each
    of the four normalised: from few clips what moves is learnt sooner so."""
    dropout: float = 0.0
    """Probability of zeroing a unit of what the scores are made from, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regions not in get_args(Regions):
            raise ValueError(
                f"model.network.regions must be one of {', '.join(get_args(Regions))}, got {self.regions!r}."
            )
        if self.regions == "flat" and self.encoder.features == "pooled":
            raise ValueError(
                "model.network.regions is flat, but model.network.encoder.features is pooled: there is one region. Set "
                "features to grid (this network takes pooled ones where nothing is said), or leave regions out."
            )
        if self.frame_size is not None and self.frame_size < 1:
            raise ValueError(f"model.network.frame_size must be at least 1, or null, got {self.frame_size}.")
        strides = self.difference_strides
        if not isinstance(self.differences, bool) and (
            not strides or min(strides) < 1 or len(set(strides)) < len(strides)
        ):
            raise ValueError(
                "model.network.differences must be true, false or a list of different whole numbers of at least 1, frames, got "
                f"{self.differences}."
            )
        check_share(self.feature_dropout, name="feature_dropout")
        check_share(self.frame_dropout, name="frame_dropout")
        check_share(self.dropout, name="dropout")

    @property
    def difference_strides(self) -> list[int]:
        """How many frames back each difference reaches; none for no differences."""
        if isinstance(self.differences, bool):
            return [1] if self.differences else []
        return self.differences

    def build(self, shape: ClipShape, *, load_weights: bool) -> ClassificationNetwork[ClipState]:
        """See the base class."""
        return RecurrentClassificationNetwork(self, shape, load_weights=load_weights)


class ClipState(NamedTuple):
    """What is carried from frame to frame."""

    recurrent: RecurrentState
    vectors: Float[Tensor, "batch past frame"]
    """Of the last frames, as many as the longest difference reaches back; before the first stands the first."""
    pooled: PooledSoFar
    moments: MomentsSoFar | None
    """None of a network that reads none."""


class RecurrentClassificationNetwork(ClassificationNetwork[ClipState]):
    """CNN encoder -> a vector a frame -> recurrent layers -> pooling -> scores."""

    def __init__(self, config: RecurrentClassifier, shape: ClipShape, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        self.frames_at_once = config.frames_at_once
        self.encoder = ImageEncoder(config.encoder, load_weights=load_weights)
        height, width = self.encoder.grid_shape(*shape.image_size)
        self._num_read = self.encoder.num_features * (height * width if config.regions == "flat" else 1)
        frame_size = config.frame_size or self._num_read
        has_projection = config.frame_size is not None
        self.features = nn.LayerNorm(self._num_read) if has_projection else nn.Identity()
        self.feature_dropout = LockedDropout(config.feature_dropout)
        self.frames = nn.Sequential(
            nn.Linear(self._num_read, frame_size) if has_projection else nn.Identity(),
            nn.LayerNorm(frame_size),
        )
        self.frame_dropout = LockedDropout(config.frame_dropout)
        self._strides = config.difference_strides
        self.recurrent = Recurrent(config.recurrent, input_size=frame_size * (1 + len(self._strides)))
        self.pooling = build_pooling(
            config.pooling,
            num_features=self.recurrent.output_size,
            bidirectional=config.recurrent.bidirectional,
        )
        self.dropout = nn.Dropout(config.dropout)
        num_moments = NUM_MOMENTS * frame_size if config.moments else 0
        self.output = nn.Linear(self.recurrent.output_size + num_moments, shape.num_classes)

    @property
    def is_causal(self) -> bool:
        """See the base class."""
        return not self.config.recurrent.bidirectional

    def _vectors(self, features: Tensor) -> Tensor:
        """(batch, time, regions, features) -> (batch, time, frame)."""
        features = features.to(self.output.weight.dtype)
        read = features.flatten(-2) if self.config.regions == "flat" else features.mean(-2)
        if read.shape[-1] != self._num_read:
            raise ValueError(
                f"This network reads {self._num_read} numbers a frame, got {read.shape[-1]}: with regions: flat, frames must "
                "have the size of those in training."
            )
        vectors: Tensor = self.frame_dropout(self.frames(self.feature_dropout(self.features(read))))
        return vectors

    def _inputs(self, vectors: Tensor) -> Tensor:
        """(batch, time, frame) -> what the recurrent layers read."""
        if not self._strides:
            return vectors
        time = vectors.shape[1]
        before = (
            torch.cat([vectors[:, :1].expand(-1, min(stride, time), -1), vectors[:, :-stride]], dim=1)
            for stride in self._strides
        )
        return torch.cat([vectors, *(vectors - each for each in before)], dim=-1)

    def _scores(self, pooled: Tensor, beside: Tensor | None) -> Tensor:
        """What the recurrent layers say, and the moments of the frames where they are read, to the scores."""
        if beside is not None:
            parts = [pooled, *beside.chunk(NUM_MOMENTS, dim=-1)]
            pooled = torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], dim=-1)
        scores: Tensor = self.output(self.dropout(pooled))
        return scores

    def forward(
        self, features: Float[Tensor, "batch time regions features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch classes"]:
        """See the base class."""
        vectors = self._vectors(without_padding(features, lengths))
        outputs, _ = self.recurrent(self._inputs(vectors), lengths)
        beside = moments(vectors, lengths) if self.config.moments else None
        return self._scores(self.pooling(outputs, lengths), beside)

    def scores_over_time(
        self, features: Float[Tensor, "batch time regions features"]
    ) -> Float[Tensor, "batch time classes"]:
        """See the base class."""
        if not self.is_causal:
            raise not_causal()
        vectors = self._vectors(features)
        outputs, _ = self.recurrent(self._inputs(vectors), None)
        beside = moments_of_prefixes(vectors) if self.config.moments else None
        return self._scores(pool_prefixes(self.pooling, outputs), beside)

    def step(
        self, features: Float[Tensor, "batch regions features"], state: ClipState | None
    ) -> tuple[Float[Tensor, "batch classes"], ClipState]:
        """See the base class."""
        if not self.is_causal:
            raise not_causal()
        vector = self._vectors(features.unsqueeze(1)).squeeze(1)
        past = vector.unsqueeze(1).expand(-1, max(self._strides, default=0), -1) if state is None else state.vectors
        inputs = torch.cat([vector, *(vector - past[:, -stride] for stride in self._strides)], dim=-1)
        outputs, recurrent = self.recurrent(inputs.unsqueeze(1), None, None if state is None else state.recurrent)
        pooled, so_far = pool_step(self.pooling, outputs.squeeze(1), None if state is None else state.pooled)
        beside, seen = None, None
        if self.config.moments:
            beside, seen = moments_step(vector, None if state is None else state.moments)
        # With no difference there is no past, and none comes up.
        past = torch.cat([past, vector.unsqueeze(1)], dim=1)[:, 1:]
        return self._scores(pooled, beside), ClipState(recurrent, past, so_far, seen)


@dataclass(frozen=True, kw_only=True)
class ConvRecurrentClassifier(NetworkConfig):
    """A map a frame, convolutional recurrent layers over them: Ballas et al., ICLR 2016 (arXiv:1511.06432); Shi et al. 2015."""

    encoder: ImageEncoderConfig = _GRID
    map_channels: int | None = None
    """Channels of a map as the recurrent layers read it: a linear layer of the features of each region, layer norm, dropout;
    null = the encoder's features as they are, normalised."""
    map_dropout: float = 0.0
    """Probability of zeroing a channel of a region, the same one in all frames of a clip, in [0, 1)."""
    differences: bool = False
    """Beside each map what it differs by from the one before: what moves. Zeros at the first frame."""
    conv_recurrent: ConvRecurrentConfig = _CONV_GRU
    """Layers over the maps."""
    pooling: PoolingKind = "mean"
    """How outputs over time, each a mean over its map, become one vector: last, mean, max or attention (notes N5)."""
    dropout: float = 0.0
    """Probability of zeroing a unit of that vector, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder.features == "pooled":
            raise ValueError(
                "ConvRecurrentClassifier reads maps, but model.network.encoder.features is pooled. Set features to grid, or "
                "take RecurrentClassifier."
            )
        if self.map_channels is not None and self.map_channels < 1:
            raise ValueError(f"model.network.map_channels must be at least 1, or null, got {self.map_channels}.")
        check_share(self.map_dropout, name="map_dropout")
        check_share(self.dropout, name="dropout")

    def build(self, shape: ClipShape, *, load_weights: bool) -> ClassificationNetwork[MapState]:
        """See the base class."""
        return ConvRecurrentClassificationNetwork(self, shape, load_weights=load_weights)


class MapState(NamedTuple):
    """What is carried from frame to frame."""

    recurrent: ConvState
    maps: Float[Tensor, "batch regions channels"]
    """Of the last frame."""
    pooled: PooledSoFar


class ConvRecurrentClassificationNetwork(ClassificationNetwork[MapState]):
    """CNN encoder -> a map a frame -> convolutional recurrent layers -> mean over the map, pooling -> scores."""

    def __init__(self, config: ConvRecurrentClassifier, shape: ClipShape, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        self.frames_at_once = config.frames_at_once
        self.encoder = ImageEncoder(config.encoder, load_weights=load_weights)
        self._grid = self.encoder.grid_shape(*shape.image_size)
        num_features = self.encoder.num_features
        channels = config.map_channels or num_features
        self.maps = nn.Sequential(
            nn.Identity() if config.map_channels is None else nn.Linear(num_features, channels),
            nn.LayerNorm(channels),
        )
        self.map_dropout = LockedDropout(config.map_dropout)
        self.recurrent = ConvRecurrent(
            config.conv_recurrent, input_channels=channels * (2 if config.differences else 1)
        )
        self.pooling = build_pooling(
            config.pooling,
            num_features=self.recurrent.output_channels,
            bidirectional=config.conv_recurrent.bidirectional,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.recurrent.output_channels, shape.num_classes)

    @property
    def is_causal(self) -> bool:
        """See the base class."""
        return not self.config.conv_recurrent.bidirectional

    def _maps(self, features: Tensor) -> Tensor:
        """(batch, time, regions, features) -> (batch, time, regions, channels)."""
        height, width = self._grid
        if features.shape[-2] != height * width:
            raise ValueError(
                f"This network reads maps of {height} x {width} regions, got {features.shape[-2]} regions: frames must have "
                "the size of those in training."
            )
        maps: Tensor = self.maps(features.to(self.output.weight.dtype))
        dropped: Tensor = self.map_dropout(maps.flatten(2))
        return dropped.view_as(maps)

    def _inputs(self, maps: Tensor, before: Tensor) -> Tensor:
        """(batch, time, regions, channels), twice -> (batch, time, channels, height, width), channels last in memory."""
        if self.config.differences:
            maps = torch.cat([maps, maps - before], dim=-1)
        height, width = self._grid
        return maps.view(*maps.shape[:2], height, width, -1).movedim(-1, 2)

    def _run(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        maps = self._maps(features)
        before = torch.cat([maps[:, :1], maps[:, :-1]], dim=1)
        outputs, _ = self.recurrent(self._inputs(maps, before), lengths)
        pooled: Tensor = outputs.mean((-2, -1))
        return pooled

    def forward(
        self, features: Float[Tensor, "batch time regions features"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch classes"]:
        """See the base class."""
        outputs = self._run(without_padding(features, lengths), lengths)
        scores: Tensor = self.output(self.dropout(self.pooling(outputs, lengths)))
        return scores

    def scores_over_time(
        self, features: Float[Tensor, "batch time regions features"]
    ) -> Float[Tensor, "batch time classes"]:
        """See the base class."""
        if not self.is_causal:
            raise not_causal()
        scores: Tensor = self.output(self.dropout(pool_prefixes(self.pooling, self._run(features, None))))
        return scores

    def step(
        self, features: Float[Tensor, "batch regions features"], state: MapState | None
    ) -> tuple[Float[Tensor, "batch classes"], MapState]:
        """See the base class."""
        if not self.is_causal:
            raise not_causal()
        maps = self._maps(features.unsqueeze(1)).squeeze(1)
        inputs = self._inputs(maps.unsqueeze(1), (maps if state is None else state.maps).unsqueeze(1))
        outputs, recurrent = self.recurrent(inputs, None, None if state is None else state.recurrent)
        output = outputs.squeeze(1).mean((-2, -1))
        pooled, so_far = pool_step(self.pooling, output, None if state is None else state.pooled)
        return self.output(self.dropout(pooled)), MapState(recurrent, maps, so_far)

"""The networks: padding, clips as they come, the order of frames, memory, and learning by heart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from apps.video_classification.baseline import MeanBaseline
from apps.video_classification.network import ClassificationNetwork, ClipShape, NetworkConfig
from apps.video_classification.recurrent import (
    ConvRecurrentClassificationNetwork,
    ConvRecurrentClassifier,
    RecurrentClassificationNetwork,
    RecurrentClassifier,
)
from core.nn.convolutional import ConvRecurrentConfig
from core.nn.feed_forward import FeedForwardConfig
from core.nn.pooling import PoolingKind
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig

SHAPE = ClipShape(num_classes=3, image_size=(16, 16))
ENCODER = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")
VARIANTS = ("vectors", "flat", "far", "moments", "bidirectional", "maps", "mean")
CAUSAL = tuple(each for each in VARIANTS if each != "bidirectional")
RECURRENT = tuple(each for each in VARIANTS if each != "mean")
LENGTHS = torch.tensor([4, 1, 3])


def config_of(variant: str, *, pooling: PoolingKind = "mean") -> NetworkConfig:
    if variant == "mean":
        return MeanBaseline(encoder=ENCODER, feed_forward=FeedForwardConfig(hidden_sizes=[5]))
    if variant == "maps":
        recurrent = ConvRecurrentConfig(kind="conv_gru", hidden_channels=4)
        return ConvRecurrentClassifier(
            encoder=ENCODER, map_channels=5, differences=True, conv_recurrent=recurrent, pooling=pooling
        )
    return RecurrentClassifier(
        encoder=ENCODER,
        regions="flat" if variant == "flat" else "mean",
        frame_size=6 if variant == "flat" else None,
        # Reaching back within the clips, and farther than they are long.
        differences=[1, 2, 7] if variant == "far" else variant != "flat",
        recurrent=RecurrentConfig(kind="lstm", hidden_size=4, bidirectional=variant == "bidirectional"),
        pooling=pooling,
        moments=variant == "moments",
    )


def network_of(variant: str, *, pooling: PoolingKind = "mean", **changed: Any) -> ClassificationNetwork[Any]:
    torch.manual_seed(0)
    return replace(config_of(variant, pooling=pooling), **changed).build(SHAPE, load_weights=True).double()


def features_of(*, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 4, 96, generator=generator, dtype=torch.float64)


def gradients(loss: Tensor, network: ClassificationNetwork[Any]) -> list[Tensor]:
    trained = [each for name, each in network.named_parameters() if not name.startswith("encoder.")]
    return list(torch.autograd.grad(loss, trained))


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: str, pooling: PoolingKind) -> None:
    """The classic bug reads the last padded step. NaN stands there, and each clip is as if it were alone."""
    network, features = network_of(variant, pooling=pooling), features_of()
    for row, length in enumerate(LENGTHS.tolist()):
        features[row, length:] = torch.nan
    scores = network(features, LENGTHS)
    whole = gradients(scores.sin().sum(), network)
    summed = [torch.zeros_like(each) for each in whole]
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(features[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(scores[row], alone[0], rtol=1e-10, atol=1e-10)
        summed = [each + part for each, part in zip(summed, gradients(alone.sin().sum(), network), strict=True)]
    for found, expected in zip(whole, summed, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("variant", CAUSAL)
def test_a_clip_as_it_comes_is_scored_as_the_whole_is(variant: str, pooling: PoolingKind) -> None:
    network, features = network_of(variant, pooling=pooling).eval(), features_of()
    assert network.is_causal
    over_time = network.scores_over_time(features)
    state = None
    for step in range(4):
        scores, state = network.step(features[:, step], state)
        torch.testing.assert_close(scores, over_time[:, step], rtol=1e-10, atol=1e-10)
        whole = network(features[:, : step + 1], torch.full((3,), step + 1))
        torch.testing.assert_close(scores, whole, rtol=1e-10, atol=1e-10)


def test_what_reads_from_the_end_cannot_be_scored_as_it_comes() -> None:
    network, features = network_of("bidirectional"), features_of()
    assert not network.is_causal
    with pytest.raises(ValueError, match="bidirectional: false to classify frame by frame"):
        network.scores_over_time(features)
    with pytest.raises(ValueError, match="bidirectional: false to classify frame by frame"):
        network.step(features[:, 0], None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_matters_to_recurrence_and_not_to_the_mean(variant: str) -> None:
    network, features = network_of(variant), features_of()
    lengths = torch.full((3,), 4)
    forward, backward = network(features, lengths), network(features.flip(1), lengths)
    if variant == "mean":
        torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-12)
    else:
        assert (forward - backward).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns_some_clips_by_heart_from_pixels(variant: str) -> None:
    torch.manual_seed(0)
    config = config_of(variant)
    if isinstance(config, RecurrentClassifier):
        config = replace(config, recurrent=replace(config.recurrent, hidden_size=24))
    elif isinstance(config, ConvRecurrentClassifier):
        config = replace(config, conv_recurrent=replace(config.conv_recurrent, hidden_channels=16))
    network = config.build(SHAPE, load_weights=True)
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    lengths, labels = torch.tensor([4, 1, 3]), torch.arange(3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        frames = network.encode(images, train=True)
        features = torch.zeros(3, 4, *frames.shape[1:])
        features[torch.arange(4) < lengths[:, None]] = frames
        loss = F.cross_entropy(network(features, lengths), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.05:
            break
    assert loss < 0.05


def test_differences_reach_back_as_far_as_they_say_and_to_the_first_frame_at_most() -> None:
    network = network_of("far")
    assert isinstance(network, RecurrentClassificationNetwork)
    vectors = torch.randn(2, 4, 5, dtype=torch.float64)
    inputs = network._inputs(vectors)
    for time in range(4):
        parts = [vectors[:, time], *(vectors[:, time] - vectors[:, max(0, time - stride)] for stride in (1, 2, 7))]
        assert torch.equal(inputs[:, time], torch.cat(parts, -1))
    once = network_of("far", differences=[1])
    assert isinstance(once, RecurrentClassificationNetwork)
    with_true = network_of("far", differences=True)
    assert isinstance(with_true, RecurrentClassificationNetwork)
    assert torch.equal(once._inputs(vectors), with_true._inputs(vectors))


@pytest.mark.parametrize(
    ("variant", "name"), [("vectors", "frame_dropout"), ("vectors", "feature_dropout"), ("maps", "map_dropout")]
)
def test_dropout_leaves_no_trace_in_differences(variant: str, name: str) -> None:
    """A clip in which nothing moves has none, whatever is zeroed: the same units are in all its frames."""
    network = network_of(variant, **{name: 0.5}).train()
    assert isinstance(network, RecurrentClassificationNetwork | ConvRecurrentClassificationNetwork)
    still = features_of()[:, :1].expand(-1, 4, -1, -1)
    vectors = network._vectors(still) if variant == "vectors" else network._maps(still)
    assert torch.equal(vectors, vectors[:, :1].expand_as(vectors))
    again = network._vectors(still) if variant == "vectors" else network._maps(still)
    assert not torch.equal(vectors, again)
    if name != "feature_dropout":  # behind it comes a layer norm
        zeroed = (vectors[:, 0] == 0).flatten(1)
        assert 0.3 < zeroed.double().mean() < 0.7
        assert not torch.equal(zeroed[0], zeroed[1])


def test_frames_in_parts_give_the_same_features_and_gradients() -> None:
    """Memory for time: the second pass over a part must not differ from the first."""
    images = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8)
    found = []
    for at_once in (None, 3):
        network = network_of("vectors", frames_at_once=at_once)
        features = network.encode(images, train=True)
        weights = [each for each in network.encoder.parameters() if each.requires_grad]
        found.append([features, *torch.autograd.grad(features.sin().sum(), weights)])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(config_of("vectors"), frames_at_once=0), "frames_at_once must be at least 1, or null, got 0"),
        (lambda: replace(config_of("vectors"), regions="max"), "must be one of mean, flat, got 'max'"),
        (
            lambda: replace(config_of("flat"), encoder=replace(ENCODER, features="pooled")),
            "is pooled: there is one region",
        ),
        (lambda: replace(config_of("maps"), encoder=replace(ENCODER, features="pooled")), "reads maps"),
        (
            lambda: replace(config_of("vectors"), differences=[]),
            r"differences must be true, false or a list .*, got \[\]",
        ),
        (lambda: replace(config_of("vectors"), differences=[1, 0]), r"at least 1, frames, got \[1, 0\]"),
        (lambda: replace(config_of("vectors"), differences=[2, 2]), r"different whole numbers .* got \[2, 2\]"),
        (lambda: replace(config_of("vectors"), frame_size=0), "frame_size must be at least 1, or null, got 0"),
        (lambda: replace(config_of("maps"), map_channels=0), "map_channels must be at least 1, or null, got 0"),
        (lambda: replace(config_of("vectors"), dropout=1.0), r"dropout must be in \[0, 1\), got 1"),
        (lambda: replace(config_of("vectors"), feature_dropout=1.0), r"feature_dropout must be in \[0, 1\), got 1"),
        (lambda: replace(config_of("vectors"), frame_dropout=-0.1), r"frame_dropout must be in \[0, 1\), got -0.1"),
        (lambda: replace(config_of("maps"), map_dropout=1.0), r"map_dropout must be in \[0, 1\), got 1"),
        (lambda: network_of("flat")(features_of()[:, :, :2], LENGTHS), "reads 384 numbers a frame, got 192"),
        (lambda: network_of("maps")(features_of()[:, :, :2], LENGTHS), "maps of 2 x 2 regions, got 2 regions"),
        (lambda: network_of("mean")(features_of(), torch.tensor([4, 0, 1])), "from 1 to the 4 steps"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

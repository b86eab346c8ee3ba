"""The networks: what the encoder is asked for, several captions an image, search, and learning by heart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from apps.captioning.baseline import PooledBaseline
from apps.captioning.network import CaptioningNetwork, CaptionShape, RecurrentCaptioner, RecurrentCaptioningNetwork
from core.nn.attention import Additive
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig, FixedContext
from core.nn.feed_forward import FeedForwardConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from core.nn.vision import ImageEncoderConfig
from data.captioning import CaptionBatch
from data.text import BOS, EOS
from tests.contracts.applications.captioning import _network

SHAPE = CaptionShape(vocabulary_size=9, max_length=5, image_size=(16, 16))
GREEDY = BeamConfig(beam_size=1, max_length=7)
RECURRENT = ("attend", "top_down", "tell")
ENCODER = ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")


def network_of(variant: str) -> CaptioningNetwork:
    torch.manual_seed(0)
    return _network(variant, 0.0).build(SHAPE, load_weights=True).double()


def wide_network_of(variant: str) -> CaptioningNetwork:
    """Wide enough to learn by heart in some seconds."""
    torch.manual_seed(0)
    config = _network(variant, 0.0)
    if isinstance(config, RecurrentCaptioner):
        recurrent = replace(config.decoder.recurrent, hidden_size=24)
        decoder = replace(config.decoder, recurrent=recurrent)
        config = replace(config, region_size=24, embedding_size=24, decoder=decoder)
    else:
        assert isinstance(config, PooledBaseline)
        config = replace(config, place_size=24, feed_forward=FeedForwardConfig(hidden_sizes=[48]))
    return config.build(SHAPE, load_weights=True)


def batch_of() -> CaptionBatch:
    """Three images with two captions each; one of them has only one."""
    torch.manual_seed(1)
    words = [[4, 5, EOS], [6, EOS], [7, 8, 4, EOS], [5, 5, EOS], [8, EOS], []]
    labels, captions = torch.zeros(6, 4, dtype=torch.int64), torch.zeros(6, 4, dtype=torch.int64)
    for row, some in enumerate(words):
        labels[row, : len(some)] = torch.tensor(some, dtype=torch.int64)
        captions[row, : len(some)] = torch.tensor([BOS, *some[:-1]][: len(some)], dtype=torch.int64)
    return CaptionBatch(
        images=torch.randint(120, (3, 3, 16, 16), dtype=torch.uint8)
        + (120 * torch.eye(3, dtype=torch.uint8))[..., None, None],
        features=None,
        captions=captions,
        labels=labels,
        lengths=torch.tensor([len(some) for some in words]),
        index=torch.arange(3),
        weight=torch.ones(3, dtype=torch.float64),
    )


@pytest.mark.parametrize("variant", RECURRENT)
def test_captions_of_an_image_are_as_if_each_had_its_image_alone(variant: str) -> None:
    """The image is projected once for all of them, and none of them sees another."""
    network, batch = network_of(variant), batch_of()
    features = network.encode(batch.images)  # type: ignore[arg-type]
    whole = network.loss(features, batch, mean="token")
    parts = []
    for row in range(6):
        one = batch._replace(
            captions=batch.captions[row : row + 1],
            labels=batch.labels[row : row + 1],
            lengths=batch.lengths[row : row + 1],
            weight=torch.ones(1, dtype=torch.float64),
        )
        parts.append(network.loss(features[row // 2 : row // 2 + 1], one, mean="token"))
    torch.testing.assert_close(sum(part.sum for part in parts), whole.sum, rtol=1e-10, atol=1e-10)
    assert whole.count == sum(part.count for part in parts) == 14


@pytest.mark.parametrize("variant", [*RECURRENT, "pooled"])
def test_gradients_reach_the_encoder_where_it_is_trained_and_nowhere_else(variant: str) -> None:
    network, batch = network_of(variant), batch_of()
    for train in (False, True):
        network.zero_grad()
        network.loss(network.encode(batch.images, train=train), batch, mean="token").sum.backward()  # type: ignore[arg-type]
        reached = [parameter.grad is not None for parameter in network.encoder.parameters()]
        assert all(reached) if train else not any(reached)


@pytest.mark.parametrize("variant", [*RECURRENT, "pooled"])
def test_features_in_half_precision_serve_as_well(variant: str) -> None:
    """A cache holds float16: what is said of an image stays the same."""
    network, batch = network_of(variant), batch_of()
    features = network.encode(batch.images).detach()  # type: ignore[arg-type]
    exact, rounded = (network.loss(each, batch, mean="token").sum for each in (features, features.half()))
    torch.testing.assert_close(rounded, exact, rtol=2e-3, atol=2e-3)
    assert (
        network.caption(features, config=GREEDY).token_lists()
        == network.caption(features.half(), config=GREEDY).token_lists()
    )


@pytest.mark.parametrize("variant", [*RECURRENT, "pooled"])
def test_it_learns_captions_by_heart_and_says_them_again(variant: str) -> None:
    """From pixels, encoder and all; one caption an image, for a second would be as right."""
    network, batch = wide_network_of(variant), batch_of()
    batch = batch._replace(
        captions=batch.captions[::2],
        labels=batch.labels[::2],
        lengths=batch.lengths[::2],
        weight=torch.ones(3),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=0.005)
    for _ in range(120):
        loss = network.loss(network.encode(batch.images, train=True), batch, mean="token")  # type: ignore[arg-type]
        optimiser.zero_grad()
        (loss.sum / loss.count).backward()
        optimiser.step()
    with torch.no_grad():
        features = network.encode(batch.images)  # type: ignore[arg-type]
        found = network.caption(features, config=GREEDY).token_lists()
        given = [label[: int(length) - 1].tolist() for label, length in zip(batch.labels, batch.lengths, strict=True)]
        assert [best for (best,) in found] == given
        scored = network.score(features, given, config=GREEDY).log_probabilities.sum()
    torch.testing.assert_close(-scored, network.loss(features, batch, mean="token").sum.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_caption_does_not_depend_on_the_batch(beam_size: int) -> None:
    network, batch = network_of("attend"), batch_of()
    config = BeamConfig(beam_size=beam_size, max_length=7)

    def captions(images: Tensor) -> list[list[int]]:
        return [found[0] for found in network.caption(network.encode(images), config=config).token_lists()]

    assert batch.images is not None
    whole = captions(batch.images)
    assert [captions(batch.images[row : row + 1])[0] for row in range(3)] == whole
    assert captions(batch.images.flip(0)) == whole[::-1]


def test_images_of_another_size_need_a_network_without_places() -> None:
    network = network_of("attend")
    with pytest.raises(ValueError, match="has places for 4 regions, got images of 9"):
        network.caption(network.encode(torch.zeros(1, 3, 24, 24, dtype=torch.uint8)), config=GREEDY)
    other = network_of("top_down")
    assert other.caption(other.encode(torch.zeros(1, 3, 24, 24, dtype=torch.uint8)), config=GREEDY).token_lists()


def test_places_without_attention_are_refused() -> None:
    with pytest.raises(ValueError, match="region_places is true, but FixedContext attends to no region"):
        RecurrentCaptioner(
            encoder=ENCODER,
            decoder=DecoderConfig(recurrent=RecurrentConfig(kind="gru", hidden_size=4), context=FixedContext()),
            region_places=True,
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"region_size": 0}, "region_size must be at least 1, or null, got 0"),
        ({"region_dropout": 1.0}, r"must be in \[0, 1\), got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RecurrentCaptioner(encoder=ENCODER, **settings)  # type: ignore[arg-type]


def test_regions_may_be_the_encoders_own_features() -> None:
    """Without a linear layer they are normalised and no more, whatever the encoder's width."""
    torch.manual_seed(0)
    config = _network("attend", 0.0)
    assert isinstance(config, RecurrentCaptioner)
    config = replace(config, region_size=None)
    network = config.build(SHAPE, load_weights=True).double()
    assert isinstance(network, RecurrentCaptioningNetwork)
    features = network.encode(batch_of().images)  # type: ignore[arg-type]
    torch.testing.assert_close(network.regions(features), F.layer_norm(features, features.shape[-1:]))
    assert not any(name.startswith("regions.0") for name in network.state_dict())


def test_scores_are_those_of_the_loss() -> None:
    network, batch = network_of("attend"), batch_of()
    assert isinstance(network, RecurrentCaptioningNetwork)
    config = DecoderConfig(
        recurrent=RecurrentConfig(kind="gru", hidden_size=4), context=AttentionBefore(attention=Additive(num_hidden=3))
    )
    assert RecurrentCaptioner(encoder=ENCODER, decoder=config).image_encoder is ENCODER
    features = network.encode(batch.images)  # type: ignore[arg-type]
    logits = network(features, batch.captions)
    chances = logits.log_softmax(-1).gather(-1, batch.labels.unsqueeze(-1)).squeeze(-1)
    mask = torch.arange(4) < batch.lengths.unsqueeze(1)
    torch.testing.assert_close(
        -chances[mask].sum(), network.loss(features, batch, mean="token").sum, rtol=1e-10, atol=1e-10
    )

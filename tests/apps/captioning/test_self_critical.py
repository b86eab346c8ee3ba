"""Self-critical training: its gradient is that of the expected reward, and it raises rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from apps.captioning.network import CaptionShape, RecurrentCaptioner, RecurrentCaptioningNetwork
from apps.captioning.self_critical import SelfCriticalConfig, SelfCriticalLoss, self_critical_loss
from core.nn.attention import Additive
from core.nn.decoders.decoder_config import AttentionBefore, DecoderConfig
from core.nn.recurrent import RecurrentConfig
from core.nn.vision import ImageEncoderConfig
from data.text import BOS, EOS, PAD, UNK

SHAPE = CaptionShape(vocabulary_size=6, max_length=4, image_size=(16, 16))
A, B = 4, 5


def network_of(*, dropout: float = 0.0) -> RecurrentCaptioningNetwork:
    torch.manual_seed(0)
    config = RecurrentCaptioner(
        encoder=ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all"),
        decoder=DecoderConfig(
            recurrent=RecurrentConfig(kind="gru", hidden_size=4),
            context=AttentionBefore(attention=Additive(num_hidden=3), gated=True),
            readout="deep",
            readout_dropout=dropout,
        ),
        region_size=4,
        embedding_size=4,
        embedding_dropout=dropout,
    )
    network = config.build(SHAPE, load_weights=True).double()
    assert isinstance(network, RecurrentCaptioningNetwork)
    return network


def share_of_a(rows: Sequence[int], captions: Sequence[Sequence[int]]) -> np.ndarray:
    """The more A and the sooner the end, the better; another image, another reward."""
    return np.array(
        [
            (row + 1.0) * (caption.count(A) + 0.5 * (caption[-1] == EOS))
            for row, caption in zip(rows, captions, strict=True)
        ]
    )


def expected_reward(network: RecurrentCaptioningNetwork, features: Tensor, *, max_length: int) -> Tensor:
    """Over all captions there can be, by their probabilities; what is never drawn has none."""
    captions = [[*words, EOS] for size in range(max_length) for words in product((A, B), repeat=size)] + [
        list(words) for words in product((A, B), repeat=max_length)
    ]
    total = features.new_zeros(())
    for row in range(len(features)):
        rewards = torch.from_numpy(share_of_a([row] * len(captions), captions))
        for caption, reward in zip(captions, rewards, strict=True):
            labels = torch.tensor([caption])
            scores = network(features[row : row + 1], torch.tensor([[BOS, *caption[:-1]]]))
            scores = scores.index_fill(-1, torch.tensor([PAD, BOS, UNK]), -torch.inf)
            chosen = scores.log_softmax(-1).gather(-1, labels.unsqueeze(-1))
            total = total + reward * chosen.sum().exp()
    return total


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_the_gradient_is_that_of_the_expected_reward_on_average(baseline: str) -> None:
    """Over many draws, whatever the baseline: it changes the noise and not the mean (Rennie et al. 2017, eq. 4-7)."""
    network = network_of()
    features = torch.randn(2, 4, 96, dtype=torch.float64)
    weight = network.decoder.output.bias
    exact = torch.autograd.grad(expected_reward(network, features, max_length=3), weight)[0]
    config = SelfCriticalConfig(num_samples=1_000, baseline=baseline, max_length=3)  # type: ignore[arg-type]
    estimates = []
    for seed in range(16):
        found = self_critical_loss(
            network,
            features,
            reward=share_of_a,
            rows=torch.arange(2),
            weight=torch.ones(2, dtype=torch.float64),
            config=config,
            seed=seed,
        )
        estimates.append(-torch.autograd.grad(found.loss.sum, weight)[0] / config.num_samples)
        assert float(found.reward.count) == 2 * config.num_samples
    drawn = torch.stack(estimates)
    error = drawn.std(0) / len(estimates) ** 0.5
    assert exact.abs().max() > 20 * error.max()
    assert bool(((drawn.mean(0) - exact).abs() <= 4 * error + 1e-12).all())


def test_what_is_never_drawn_becomes_no_likelier() -> None:
    """Nothing would hold it back: captions without it are as good, however little of the whole is left for them."""
    network = network_of()
    features = torch.randn(2, 4, 96, dtype=torch.float64)
    found = self_critical_loss(
        network,
        features,
        reward=share_of_a,
        rows=torch.arange(2),
        weight=torch.ones(2, dtype=torch.float64),
        config=SelfCriticalConfig(num_samples=8, max_length=3),
        seed=0,
    )
    gradient = torch.autograd.grad(found.loss.sum, network.decoder.output.bias)[0]
    assert not gradient[[PAD, BOS, UNK]].any()
    assert gradient[[A, B, EOS]].any()


def test_draws_follow_from_the_seed_and_the_image_alone() -> None:
    """Contract 2 and 3: neither the batch, nor dropout, nor what was drawn before."""
    network = network_of(dropout=0.5).train()
    features = torch.randn(3, 4, 96, dtype=torch.float64)
    config = SelfCriticalConfig(num_samples=3, max_length=4)

    def loss(rows: list[int], *, seed: int = 7, weight: list[float] | None = None) -> tuple[Tensor, Tensor]:
        torch.rand(5)
        found = self_critical_loss(
            network,
            features[rows],
            reward=share_of_a,
            rows=torch.tensor(rows),
            weight=torch.tensor(weight or [1.0] * len(rows), dtype=torch.float64),
            config=config,
            seed=seed,
        )
        return found.loss.sum.detach(), found.loss.count

    whole = loss([0, 1, 2])
    parts = [loss([row]) for row in (2, 0, 1)]
    torch.testing.assert_close(sum(part[0] for part in parts), whole[0], rtol=1e-10, atol=1e-10)
    assert sum(int(part[1]) for part in parts) == int(whole[1])
    assert not torch.equal(loss([0, 1, 2], seed=8)[0], whole[0])
    # A filler image counts nowhere.
    torch.testing.assert_close(loss([0, 1, 2], weight=[1, 0, 1])[0], parts[0][0] + parts[1][0], rtol=1e-10, atol=1e-10)
    assert network.training
    assert network.decoder.training


def test_dropout_is_in_what_is_learnt_and_not_in_what_is_drawn() -> None:
    network = network_of(dropout=0.5).train()
    features = torch.randn(2, 4, 96, dtype=torch.float64)

    def found(*, dropout: bool) -> SelfCriticalLoss:
        torch.manual_seed(3)
        return self_critical_loss(
            network,
            features,
            reward=share_of_a,
            rows=torch.arange(2),
            weight=torch.ones(2, dtype=torch.float64),
            config=SelfCriticalConfig(num_samples=4, max_length=4, dropout=dropout),
            seed=0,
        )

    plain, dropped = found(dropout=False), found(dropout=True)
    assert torch.equal(plain.reward.sum, dropped.reward.sum)
    assert torch.equal(plain.loss.count, dropped.loss.count)
    assert not torch.allclose(plain.loss.sum, dropped.loss.sum)
    network.eval()
    assert torch.equal(found(dropout=True).loss.sum, plain.loss.sum)


def test_it_raises_rewards() -> None:
    network = network_of()
    features = torch.randn(2, 4, 96, dtype=torch.float64)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    rewards = []
    for step in range(60):
        found = self_critical_loss(
            network,
            features,
            reward=share_of_a,
            rows=torch.arange(2),
            weight=torch.ones(2, dtype=torch.float64),
            config=SelfCriticalConfig(num_samples=8, max_length=3),
            seed=step,
        )
        optimiser.zero_grad()
        (found.loss.sum / found.loss.count).backward()
        optimiser.step()
        rewards.append(float(found.reward.sum / found.reward.count))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 1.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SelfCriticalConfig(num_samples=1), "num_samples must be at least 2 with baseline others, got 1"),
        (lambda: SelfCriticalConfig(num_samples=0, baseline="greedy"), "at least 1 with baseline greedy, got 0"),
        (lambda: SelfCriticalConfig(baseline="mean"), "must be one of others, greedy, got 'mean'"),  # type: ignore[arg-type]
        (lambda: SelfCriticalConfig(max_length=1), "max_length must be at least 2, got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

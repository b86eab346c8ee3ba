"""The feed-forward baseline: every place of a translation by itself."""

from __future__ import annotations

import pytest
import torch

from apps.translation.baseline import BagOfWordsBaseline, BagOfWordsNetwork
from core.nn.feed_forward import FeedForwardConfig
from core.nn.search import BeamConfig
from data.text import EOS, UNK
from tests.apps.translation.test_network import SHAPE, batch_of

GREEDY = BeamConfig(beam_size=1, max_length=9)


@pytest.fixture
def network() -> BagOfWordsNetwork:
    torch.manual_seed(0)
    config = BagOfWordsBaseline(embedding_size=12, feed_forward=FeedForwardConfig(hidden_sizes=[32]))
    network = config.build(SHAPE)
    assert isinstance(network, BagOfWordsNetwork)
    return network


@pytest.mark.usefixtures("as_shipped")
def test_it_learns_pairs_by_heart_and_says_them_again(network: BagOfWordsNetwork) -> None:
    batch = batch_of()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(200):
        loss = network.loss(batch, mean="token")
        optimiser.zero_grad()
        (loss.sum / loss.count).backward()
        optimiser.step()
    found = network.translate(batch.source, batch.source_lengths, config=GREEDY)
    for row, (best,) in enumerate(found.token_lists()):
        assert best == batch.labels[row, : batch.target_lengths[row] - 1].tolist()
    torch.testing.assert_close(
        found.scores.sum(), -network.loss(batch, mean="token").sum.detach(), rtol=1e-4, atol=1e-4
    )


def test_the_order_of_the_source_is_nothing_to_it(network: BagOfWordsNetwork) -> None:
    source, lengths = torch.tensor([[5, 6, 7, EOS], [7, 5, 6, EOS]]), torch.tensor([4, 4])
    first, second = network.translate(source, lengths, config=GREEDY).token_lists()
    assert first == second


def test_a_translation_ends_at_its_first_end_or_at_the_longest_length(network: BagOfWordsNetwork) -> None:
    batch = batch_of()
    with torch.no_grad():
        network.words.output.bias[EOS] = 100.0
    for min_length in (1, 4):
        config = BeamConfig(beam_size=1, max_length=9, min_length=min_length)
        found = network.translate(batch.source, batch.source_lengths, config=config)
        assert (found.lengths == min_length).all()
        assert found.finished.all()
    with torch.no_grad():
        network.words.output.bias[EOS] = -100.0
    # Longer than any translation of the training: the last place serves for all beyond.
    config = BeamConfig(beam_size=1, max_length=30, max_length_ratio=2.0, max_length_offset=6)
    found = network.translate(batch.source, batch.source_lengths, config=config)
    assert found.lengths[:, 0].tolist() == (2 * batch.source_lengths + 6).tolist()
    assert not found.finished.any()


def test_the_unknown_word_is_chosen_only_where_it_is_replaced(network: BagOfWordsNetwork) -> None:
    batch = batch_of()
    with torch.no_grad():
        network.words.output.bias[UNK] = 100.0
    for allowed in (False, True):
        found = network.translate(batch.source, batch.source_lengths, config=GREEDY, allow_unknown=allowed)
        assert bool((found.tokens == UNK).any()) == allowed

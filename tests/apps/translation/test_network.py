"""The recurrent translator: every way from source to target builds, learns a handful of pairs, and says them again."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from apps.translation.network import RecurrentTranslationNetwork, RecurrentTranslator, TextShape
from core.nn.attention import Additive, Dot, General
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
)
from core.nn.recurrent import RecurrentConfig
from core.nn.search import BeamConfig
from data.batching import Piece
from data.parallel.batches import PairDataset
from data.text import EOS, UNK, TokenArrays
from data.translation import TranslationBatch

SHAPE = TextShape(source_vocabulary=14, target_vocabulary=14, is_shared=True, max_length=6)
GREEDY = BeamConfig(beam_size=1, max_length=9)
# Without end of patience: five poor translations that end early may not stop the search for a good one that is longer.
BEAM = BeamConfig(beam_size=5, num_best=2, max_length=9, length_penalty=1.0, patience=math.inf)


def config_of(context: ContextConfig, *, bidirectional: bool, kind: Any = "gru", **changes: Any) -> RecurrentTranslator:
    size = 16
    return RecurrentTranslator(
        encoder=RecurrentConfig(
            kind=kind, hidden_size=size // 2 if bidirectional else size, bidirectional=bidirectional
        ),
        decoder=DecoderConfig(
            recurrent=RecurrentConfig(
                kind=kind, hidden_size=size, num_layers=2 if isinstance(context, AttentionBetween) else 1
            ),
            context=context,
            readout="deep" if isinstance(context, FirstStateOnly | FixedContext) else "attentional",
        ),
        **{"embedding_size": size, **changes},
    )


def network_of(config: RecurrentTranslator) -> RecurrentTranslationNetwork:
    torch.manual_seed(0)
    network = config.build(SHAPE)
    assert isinstance(network, RecurrentTranslationNetwork)
    return network


def batch_of(number: int = 8) -> TranslationBatch:
    """Pairs of 1 to 6 tokens: no two sources are the same, and no translation is like its source."""
    generator = np.random.default_rng(0)
    lists = [generator.integers(UNK + 1, 14, (number, size)).tolist() for size in (5, 6)]
    source = TokenArrays.of([UNK + 1 + row, *tokens[: row % 6]] for row, tokens in enumerate(lists[0]))
    target = TokenArrays.of(tokens[: 1 + (row + 2) % 6] for row, tokens in enumerate(lists[1]))
    return PairDataset(source, target, rows=np.arange(number)).batch(Piece(0, np.arange(number)))


CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionAfter(attention=Dot(), input_feeding=False),
    AttentionBefore(attention=Additive(num_hidden=8)),
    AttentionBefore(attention=Additive(num_hidden=8, coverage=True)),
    AttentionBetween(attention=Additive(num_hidden=8)),
]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("context", CONTEXTS, ids=repr)
def test_every_way_from_source_to_target_builds(context: ContextConfig, bidirectional: bool) -> None:
    """The loss is near that of chance at first, every weight has a gradient, and a translation comes out."""
    network = network_of(config_of(context, bidirectional=bidirectional))
    batch = batch_of()
    loss = network.loss(batch, mean="token")
    assert float(loss.count) == int(batch.target_lengths.sum())
    assert float(loss.sum.detach() / loss.count) == pytest.approx(np.log(14), rel=0.15)
    loss.sum.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    found = network.translate(batch.source, batch.source_lengths, config=BEAM)
    assert found.tokens.shape[:2] == (8, 2)
    assert network.has_attention == (found.attention is not None) == (context.attention_config is not None)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("config", "true_probability"),
    [
        pytest.param(config_of(FirstStateOnly(), bidirectional=False, kind="lstm"), 1.0, id="first state"),
        pytest.param(config_of(FixedContext(), bidirectional=True), 1.0, id="fixed context"),
        pytest.param(config_of(CONTEXTS[3], bidirectional=True, kind="lstm"), 1.0, id="after"),
        pytest.param(config_of(CONTEXTS[2], bidirectional=False), 0.7, id="input feeding, scheduled sampling"),
        pytest.param(config_of(CONTEXTS[5], bidirectional=True), 1.0, id="before, coverage"),
        pytest.param(
            config_of(CONTEXTS[6], bidirectional=True, tie_embeddings=True, share_embeddings=True), 1.0, id="between"
        ),
    ],
)
def test_it_learns_pairs_by_heart_and_says_them_again(config: RecurrentTranslator, true_probability: float) -> None:
    """Greedily, and by a beam of 5: where the loss is this small, no other translation is half as likely."""
    network, batch = network_of(config), batch_of()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(250):
        loss = network.loss(batch, mean="token", true_probability=true_probability)
        optimiser.zero_grad()
        (loss.sum / loss.count).backward()
        optimiser.step()
        if float(loss.sum.detach()) < 0.3:
            break
    wanted = [
        labels[: length - 1].tolist()
        for labels, length in zip(batch.labels, batch.target_lengths.tolist(), strict=True)
    ]
    for search in (GREEDY, BEAM):
        found = network.translate(batch.source, batch.source_lengths, config=search)
        assert [best[0] for best in found.token_lists()] == wanted
        assert found.finished[:, 0].all()


def test_what_a_translation_scores_is_what_it_loses() -> None:
    """Search and loss agree: log P of a translation is minus its summed cross-entropy."""
    network, batch = network_of(config_of(CONTEXTS[4], bidirectional=True)).double(), batch_of()
    found = network.translate(batch.source, batch.source_lengths, config=GREEDY)
    translated = TokenArrays.of(tokens[0] for tokens in found.token_lists())
    source = TokenArrays.of(
        row[: length - 1].tolist() for row, length in zip(batch.source, batch.source_lengths.tolist(), strict=True)
    )
    for row in range(8):
        if not found.finished[row, 0]:
            continue
        again = PairDataset(source, translated, rows=np.arange(8)).batch(Piece(0, np.array([row])))
        loss = network.loss(again._replace(weight=again.weight.double()), mean="token")
        torch.testing.assert_close(found.log_probabilities[row, 0], -loss.sum, rtol=1e-9, atol=1e-9)


def test_the_unknown_word_is_chosen_only_where_it_is_replaced() -> None:
    network, batch = network_of(config_of(FixedContext(), bidirectional=False)), batch_of()
    with torch.no_grad():
        network.decoder.output.bias[UNK] = 100.0
        network.decoder.output.bias[EOS] = 50.0
    found = network.translate(batch.source, batch.source_lengths, config=GREEDY)
    assert not (found.tokens == UNK).any()
    found = network.translate(batch.source, batch.source_lengths, config=GREEDY, allow_unknown=True)
    assert (found.tokens == UNK).all()


def test_shared_embeddings_are_one_table() -> None:
    network = network_of(config_of(CONTEXTS[2], bidirectional=True, share_embeddings=True, tie_embeddings=True))
    assert network.embedding_of("source") is network.embedding_of("target")
    assert network.decoder.output.weight is network.embedding_of("source").weight


@pytest.mark.parametrize(
    ("changes", "shape", "said"),
    [
        ({"share_embeddings": True}, SHAPE._replace(is_shared=False), r"Set data\.shared_vocabulary: true"),
        ({"encoder_dropout": 1.0}, SHAPE, r"encoder_dropout must be in \[0, 1\), got 1.0"),
        ({"embedding_size": 5, "tie_embeddings": True}, SHAPE, "as wide as an embedding"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], shape: TextShape, said: str) -> None:
    config = dataclasses.replace(config_of(CONTEXTS[2], bidirectional=True), **changes)
    with pytest.raises(ValueError, match=said):
        config.build(shape)

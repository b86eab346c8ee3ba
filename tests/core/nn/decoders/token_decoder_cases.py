"""Token decoders of every context, with a ragged source."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.nn.attention import Additive, Dot, General
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
)
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.recurrent import RecurrentConfig

VOCABULARY = 7
CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionAfter(attention=Dot(), input_feeding=False),
    AttentionBefore(attention=Additive(num_hidden=3, coverage=True)),
    AttentionBetween(attention=Additive(num_hidden=3)),
]
contexts = pytest.mark.parametrize("context", CONTEXTS, ids=repr)


def make(
    context: ContextConfig, *, kind: str = "lstm", dropout: float = 0.0, **changed: Any
) -> tuple[TokenDecoder, Source]:
    """A decoder of random weights and a ragged source of 3 examples."""
    torch.manual_seed(0)
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind=kind, hidden_size=4, num_layers=2, dropout=dropout),
        context=context,
        readout="deep" if isinstance(context, FirstStateOnly) else "attentional",
        readout_dropout=dropout,
    )
    config = TokenDecoderConfig(**{"decoder": decoder, "embedding_size": 4, "embedding_dropout": dropout, **changed})
    shape = SourceShape(output_size=4, summary_size=5)
    model = TokenDecoder(config, vocabulary_size=VOCABULARY, source=shape).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    outputs, summary = torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    return model, Source(outputs, torch.tensor([6, 0, 2]), summary)


def gradients(total: Tensor, model: TokenDecoder) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)

"""One small instance of every public network of `core.nn`, with inputs that fit it.

All inputs are batch-first, so that a batch can be cut between processes. Lengths of 0 are among them wherever a network
takes them, every second row empty, and what stands in the padding is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from core.nn.attention import Additive, Attention, AttentionConfig, Dot, General, MultiHead
from core.nn.cells import CELL_KINDS
from core.nn.convolutional import ConvRecurrent, ConvRecurrentConfig
from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder_config import (
    AttentionAfter,
    AttentionBefore,
    AttentionBetween,
    ContextConfig,
    DecoderConfig,
    FirstStateOnly,
    FixedContext,
    TopDown,
)
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.decoders.vector_decoder import OneToMany, VectorDecoder
from core.nn.dropout import LockedDropout
from core.nn.encoder_decoder import EncoderDecoder, RecurrentEncoder, TokenEncoder
from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.lengths import valid_steps
from core.nn.placewise import PlacewiseWords
from core.nn.pooling import build_pooling
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.nn.vision import ImageEncoder, ImageEncoderConfig

BATCH_SIZE, NUM_STEPS, NUM_SOURCE, FEATURES, SIZE, VOCABULARY = 4, 5, 6, 3, 4, 11
EMPTY_EVERY_SECOND = [5, 0, 3, 0]
NOT_EMPTY = [5, 1, 3, 2]

Inputs = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and how to call it."""

    name: str
    build: Callable[[], nn.Module]
    """A new one, weights drawn."""
    draw: Callable[[], Inputs]
    """New inputs in float32, by the names of `forward`'s arguments."""
    training: bool = True
    """Whether gradients in training are those of the batch cut in two: not where noise is drawn."""

    def make(self, dtype: torch.dtype = torch.float32, *, seed: int = 0) -> tuple[nn.Module, Inputs]:
        """The network and its inputs, the same for the same seed."""
        torch.manual_seed(seed)
        model = self.build().to(dtype)
        inputs = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in self.draw().items()
        }
        return model, inputs


class Attends(nn.Module):
    """An attention with the memory made inside, so that all its inputs are tensors."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self, query: Tensor, values: Tensor, lengths: Tensor, coverage: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.attention(query, self.attention.memory(values, lengths), coverage)


class Decodes(nn.Module):
    """A decoder with the source made inside: a whole target, or with `num_steps` its own outputs fed back."""

    def __init__(self, decoder: TokenDecoder | VectorDecoder, *, true_probability: float = 1.0) -> None:
        super().__init__()
        self.decoder = decoder
        self.true_probability = true_probability

    def forward(
        self, previous: Tensor, lengths: Tensor, outputs: Tensor, source_lengths: Tensor, summary: Tensor
    ) -> Any:
        state = self.decoder.start(Source(outputs, source_lengths, summary))
        return self.decoder(previous, lengths, state, true_probability=self.true_probability)


class Spreads(nn.Module):
    """One to many, for a fixed number of steps."""

    def __init__(self, network: OneToMany) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.network(inputs, lengths, num_steps=NUM_STEPS)


class Describes(nn.Module):
    """Words without recurrence, at a fixed number of places."""

    def __init__(self, network: PlacewiseWords) -> None:
        super().__init__()
        self.network = network

    def forward(self, described: Tensor) -> Tensor:
        return self.network.output(self.network(described, torch.arange(NUM_STEPS, device=described.device)))


def results(output: Any) -> list[Tensor]:
    """What a network gives, the output that training reads first; of a decoder's state not its memory (-inf in it)."""
    if isinstance(getattr(output, "state", None), CarriedState):
        output = output._replace(state=output.state._replace(memory=None))
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def loss(output: Any) -> Tensor:
    """A sum over examples of what training reads, whatever the network."""
    return (results(output)[0].double() + 0.5).square().sum()


def padded(lengths: list[int], num_steps: int, *features: int) -> Tensor:
    """Random values, NaN after each length."""
    valid = valid_steps(torch.tensor(lengths), num_steps).reshape(len(lengths), num_steps, *[1] * len(features))
    return torch.randn(len(lengths), num_steps, *features).masked_fill(~valid, torch.nan)


def _sequences(lengths: list[int] = EMPTY_EVERY_SECOND, *features: int) -> Callable[[], Inputs]:
    return lambda: {
        "inputs": padded(lengths, NUM_STEPS + 1, *(features or (FEATURES,))),
        "lengths": torch.tensor(lengths),
    }


def _recurrent(**settings: Any) -> Case:
    config = RecurrentConfig(**{"hidden_size": SIZE, "num_layers": 2, "bidirectional": True, **settings})
    noise = any(settings.get(name) for name in ("dropout", "zoneout", "zoneout_cell", "weight_drop"))
    return Case(
        name=f"recurrent {_words(settings)}",
        build=lambda: Recurrent(config, input_size=FEATURES),
        draw=_sequences(),
        training=not noise,
    )


def _convolutional(**settings: Any) -> Case:
    config = ConvRecurrentConfig(**{"hidden_channels": 2, "num_layers": 2, "bidirectional": True, **settings})
    return Case(
        name=f"convolutional {_words(settings)}",
        build=lambda: ConvRecurrent(config, input_channels=2),
        draw=_sequences(EMPTY_EVERY_SECOND, 2, 4, 3),
        training="dropout" not in settings,
    )


def _attention(config: AttentionConfig) -> Case:
    def draw() -> Inputs:
        lengths = [6, 0, 2, 0]
        inputs = {"query": torch.randn(BATCH_SIZE, 3, SIZE), "values": padded(lengths, NUM_SOURCE, SIZE)}
        inputs["lengths"] = torch.tensor(lengths)
        if config.has_coverage:
            inputs["coverage"] = torch.rand(BATCH_SIZE, 3, NUM_SOURCE)
        return inputs

    return Case(
        name=f"attention {config}", build=lambda: Attends(config.build(query_size=SIZE, memory_size=SIZE)), draw=draw
    )


def _pooling(kind: Any, *, bidirectional: bool) -> Case:
    def draw() -> Inputs:
        return {"outputs": padded(NOT_EMPTY, NUM_STEPS, SIZE), "lengths": torch.tensor(NOT_EMPTY)}

    return Case(
        name=f"pooling {kind}{' in two directions' if bidirectional else ''}",
        build=lambda: build_pooling(kind, num_features=SIZE, bidirectional=bidirectional),
        draw=draw,
    )


def _decoder_config(context: ContextConfig, **settings: Any) -> DecoderConfig:
    return DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=SIZE, num_layers=2),
        context=context,
        readout="deep" if isinstance(context, FirstStateOnly) else "attentional",
        **settings,
    )


SHAPE = SourceShape(output_size=SIZE, summary_size=SIZE + 1)


def _source() -> Inputs:
    lengths = [6, 0, 2, 4]
    return {
        "outputs": padded(lengths, NUM_SOURCE, SIZE),
        "source_lengths": torch.tensor(lengths),
        "summary": torch.randn(BATCH_SIZE, SIZE + 1),
    }


def _tokens(lengths: list[int]) -> Tensor:
    """Numbers that are no token stand in the padding."""
    tokens = torch.randint(VOCABULARY, (len(lengths), NUM_STEPS))
    return tokens.masked_fill(~valid_steps(torch.tensor(lengths), NUM_STEPS), -100)


def _token_decoder(context: ContextConfig, *, true_probability: float = 1.0) -> Case:
    config = TokenDecoderConfig(decoder=_decoder_config(context), embedding_size=SIZE)
    return Case(
        name=f"token decoder {context}{'' if true_probability else ' running freely'}",
        build=lambda: Decodes(
            TokenDecoder(config, vocabulary_size=VOCABULARY, source=SHAPE), true_probability=true_probability
        ),
        draw=lambda: {
            "previous": _tokens(EMPTY_EVERY_SECOND),
            "lengths": torch.tensor(EMPTY_EVERY_SECOND),
            **_source(),
        },
    )


def _vector_decoder(context: ContextConfig, *, true_probability: float = 1.0) -> Case:
    return Case(
        name=f"vector decoder {context}{'' if true_probability else ' running freely'}",
        build=lambda: Decodes(
            VectorDecoder(_decoder_config(context), value_size=2, num_outputs=2, source=SHAPE),
            true_probability=true_probability,
        ),
        draw=lambda: {
            "previous": padded(EMPTY_EVERY_SECOND, NUM_STEPS, 2),
            "lengths": torch.tensor(EMPTY_EVERY_SECOND),
            **_source(),
        },
    )


def _translation() -> Case:
    """Everything at once: tokens in, tokens out, the first state copied from a bidirectional encoder."""
    half = RecurrentConfig(kind="gru", hidden_size=SIZE // 2, bidirectional=True)
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind="gru", hidden_size=SIZE),
        context=AttentionAfter(attention=General()),
        bridge="copy",
    )
    config = TokenDecoderConfig(decoder=decoder, embedding_size=SIZE, tie_embeddings=True)

    def build() -> nn.Module:
        encoder = TokenEncoder(half, vocabulary_size=VOCABULARY, embedding_size=FEATURES)
        return EncoderDecoder(encoder, TokenDecoder(config, vocabulary_size=VOCABULARY, source=encoder.source_shape))

    return Case(
        name="encoder-decoder of tokens",
        build=build,
        draw=lambda: {
            "inputs": _tokens(NOT_EMPTY),
            "lengths": torch.tensor(NOT_EMPTY),
            "targets": _tokens(EMPTY_EVERY_SECOND),
            "target_lengths": torch.tensor(EMPTY_EVERY_SECOND),
        },
    )


def _forecast() -> Case:
    layers = RecurrentConfig(kind="lstm", hidden_size=SIZE)

    def build() -> nn.Module:
        encoder = RecurrentEncoder(layers, input_size=FEATURES)
        config = DecoderConfig(recurrent=layers, context=FixedContext(), readout="state")
        return EncoderDecoder(encoder, VectorDecoder(config, value_size=2, num_outputs=2, source=encoder.source_shape))

    return Case(
        name="encoder-decoder of vectors",
        build=build,
        draw=lambda: {
            **_sequences()(),
            "targets": padded(NOT_EMPTY, NUM_STEPS, 2),
            "target_lengths": torch.tensor(NOT_EMPTY),
        },
    )


def _feed_forward(**settings: Any) -> Case:
    config = FeedForwardConfig(hidden_sizes=[SIZE, SIZE], **settings)
    return Case(
        name=f"feed-forward {_words(settings)}",
        build=lambda: FeedForward(config, input_size=FEATURES, output_size=2),
        draw=lambda: {"inputs": torch.randn(BATCH_SIZE, FEATURES)},
        training="dropout" not in settings,
    )


def _words(settings: dict[str, Any]) -> str:
    return " ".join(str(value) if name == "kind" else name for name, value in settings.items()) or "plain"


CONTEXTS: list[ContextConfig] = [
    FirstStateOnly(),
    FixedContext(),
    AttentionAfter(attention=General()),
    AttentionAfter(attention=MultiHead(num_heads=2, num_hidden=SIZE), input_feeding=False),
    AttentionBefore(attention=Additive(num_hidden=3, coverage=True)),
    AttentionBetween(attention=Dot()),
    AttentionBefore(attention=Additive(num_hidden=3), gated=True),
    TopDown(attention=General()),
]

CASES: list[Case] = [
    *(_recurrent(kind=kind) for kind in CELL_KINDS),
    _recurrent(kind="gru", reset="before"),
    _recurrent(kind="lstm", residual=True, learn_initial_state=True),
    _recurrent(kind="lstm", dropout=0.3),
    _recurrent(kind="min_gru", dropout=0.3, locked_dropout=True),
    _recurrent(kind="lstm", layer_norm=True, zoneout=0.2, zoneout_cell=0.3, weight_drop=0.3),
    _recurrent(kind="gru", layer_norm=True, dropout=0.3, locked_dropout=True, learn_initial_state=True),
    _recurrent(kind="rnn_tanh", zoneout=0.2, weight_drop=0.3),
    _convolutional(kind="conv_rnn"),
    _convolutional(kind="conv_lstm", peepholes=True, norm_groups=1),
    _convolutional(kind="conv_gru", dropout=0.3, residual=True),
    *(
        _attention(config)
        for config in (
            Additive(num_hidden=3),
            Additive(num_hidden=3, coverage=True),
            Dot(),
            General(),
            MultiHead(num_heads=2, num_hidden=4),
        )
    ),
    *(_pooling(kind, bidirectional=False) for kind in ("last", "mean", "max", "attention")),
    _pooling("last", bidirectional=True),
    _feed_forward(),
    _feed_forward(activation="gelu", layer_norm=True, dropout=0.3),
    Case(
        name="locked dropout",
        build=lambda: LockedDropout(0.3),
        draw=lambda: {"inputs": torch.randn(BATCH_SIZE, NUM_STEPS, FEATURES)},
        training=False,
    ),
    *(_token_decoder(context) for context in CONTEXTS),
    _token_decoder(CONTEXTS[2], true_probability=0.0),
    _vector_decoder(CONTEXTS[1]),
    _vector_decoder(CONTEXTS[4], true_probability=0.0),
    Case(
        name="one to many",
        build=lambda: Spreads(
            OneToMany(RecurrentConfig(kind="gru", hidden_size=SIZE), input_size=FEATURES, num_outputs=2)
        ),
        draw=lambda: {"inputs": torch.randn(BATCH_SIZE, FEATURES), "lengths": torch.tensor(EMPTY_EVERY_SECOND)},
    ),
    Case(
        name="placewise words",
        build=lambda: Describes(
            PlacewiseWords(
                FeedForwardConfig(hidden_sizes=[SIZE]),
                input_size=FEATURES,
                place_size=3,
                num_places=NUM_STEPS - 1,
                vocabulary_size=VOCABULARY,
            )
        ),
        draw=lambda: {"described": torch.randn(BATCH_SIZE, FEATURES)},
    ),
    Case(
        name="image encoder",
        build=lambda: ImageEncoder(ImageEncoderConfig(backbone="small_cnn", weights=None, trainable="all")),
        draw=lambda: {"images": torch.rand(BATCH_SIZE, 3, 16, 12)},
    ),
    _translation(),
    _forecast(),
]

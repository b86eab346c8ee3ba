"""Encoder-decoder with a context alone and with attention, by the length of the sentence (notes N10, N15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.notes.experiment import Column, Experiment, Finding, Measured, Record, Settings, figure, holds
from benchmarks.notes.learning import count_parameters, fit, widest
from benchmarks.notes.plots import draw_lines
from benchmarks.notes.tasks import END, Sentences, sentences
from core.nn.attention import General
from core.nn.decoders.decoder_config import AttentionAfter, ContextConfig, DecoderConfig, FirstStateOnly, FixedContext
from core.nn.decoders.token_decoder import TokenDecoder, TokenDecoderConfig
from core.nn.encoder_decoder import EncoderDecoder, TokenEncoder
from core.nn.lengths import valid_steps
from core.nn.losses import summed_loss
from core.nn.recurrent import RecurrentConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST, EVERY, ATTENTION = "context first", "context at every step", "attention"
CONTEXTS: dict[str, ContextConfig] = {
    FIRST: FirstStateOnly(),
    EVERY: FixedContext(),
    ATTENTION: AttentionAfter(attention=General(), input_feeding=False),
}


def build(case: str, width: int, *, num_words: int, embedding_size: int) -> EncoderDecoder:
    """A bidirectional LSTM and an LSTM decoder of that width."""
    vocabulary_size = num_words + 2
    encoder = TokenEncoder(
        RecurrentConfig(kind="lstm", hidden_size=width, bidirectional=True),
        vocabulary_size=vocabulary_size,
        embedding_size=embedding_size,
    )
    decoder = DecoderConfig(
        recurrent=RecurrentConfig(kind="lstm", hidden_size=width),
        context=CONTEXTS[case],
        readout="state" if case == FIRST else "attentional",
    )
    config = TokenDecoderConfig(decoder=decoder, embedding_size=embedding_size)
    return EncoderDecoder(encoder, TokenDecoder(config, vocabulary_size=vocabulary_size, source=encoder.source_shape))


def run(case: str, settings: Settings) -> Measured:
    """Share of wrong words of translations that the network wrote on its own, by length of the sentence."""
    num_words = settings["num_words"]

    def network_of(width: int) -> EncoderDecoder:
        return build(case, width, num_words=num_words, embedding_size=settings["embedding_size"])

    network = widest(network_of, num_parameters=settings["num_parameters"])
    assert isinstance(network, EncoderDecoder)
    lengths = settings["tested"]
    unseen = [
        sentences(settings["num_test"], shortest=length, longest=length, num_words=num_words) for length in lengths
    ]

    def loss(_: int) -> Tensor:
        pairs = sentences(
            settings["batch_size"], shortest=settings["shortest"], longest=settings["longest"], num_words=num_words
        )
        scores = network(pairs.source, pairs.source_lengths, pairs.given, pairs.target_lengths).logits
        losses = F.cross_entropy(scores.transpose(1, 2), pairs.wanted, reduction="none")
        mask = valid_steps(pairs.target_lengths, pairs.wanted.shape[1])
        summed = summed_loss(losses, mask=mask, mean="token")
        return summed.sum / summed.count

    def wrong(pairs: Sentences) -> float:
        state = network.start(pairs.source, pairs.source_lengths)
        assert isinstance(network.decoder, TokenDecoder)
        first = torch.full((len(pairs.source),), END)
        said, _ = network.decoder.generate(first, state, num_steps=pairs.wanted.shape[1] - 1)
        return float((said != pairs.wanted[:, :-1]).float().mean())

    def by_length() -> list[float]:
        return [wrong(pairs) for pairs in unseen]

    known = [number for number, length in enumerate(lengths) if settings["shortest"] <= length <= settings["longest"]]

    def test() -> float:
        errors = by_length()
        return sum(errors[number] for number in known) / len(known)

    fit(network, loss, num_updates=settings["num_updates"], lr=settings["lr"], test=test, num_tests=4)
    with torch.no_grad():
        errors = by_length()
    return Measured(
        {
            "error": sum(errors[number] for number in known) / len(known),
            "shortest": errors[known[0]],
            "longest": errors[known[-1]],
            "beyond": errors[-1],
            "parameters": count_parameters(network),
        },
        {"error": {"x": [float(length) for length in lengths], "y": errors}},
    )


def findings(record: Record) -> list[Finding]:
    """How errors grow with the length."""

    def grows(case: str) -> Finding:
        short, long = record.values(case, "shortest"), record.values(case, "longest")
        return Finding(
            f"{case}: more words of the longest sentences are wrong than of the shortest",
            holds(max(short) < min(long)),
            f"{figure(record.mean(case, 'longest'))} against {figure(record.mean(case, 'shortest'))}",
        )

    return [
        grows(FIRST),
        grows(EVERY),
        record.less(ATTENTION, FIRST, "longest", statement="Attention does better than the context on the longest"),
        record.less(
            ATTENTION,
            EVERY,
            "longest",
            statement="Attention does better than the context at every step on the longest",
        ),
        record.less(EVERY, FIRST, "longest", statement="The context at every step does better than at the first alone"),
        record.less(
            ATTENTION, FIRST, "beyond", statement="Attention does better on sentences longer than any it was trained on"
        ),
    ]


def draw(record: Record, figure: Figure) -> None:
    """Wrong words by length."""
    axis = figure.subplots()
    draw_lines(axis, record.curves("error"), x="words of the sentence", y="share of wrong words")
    longest = record.settings["longest"]
    axis.axvspan(longest + 0.5, max(record.settings["tested"]) + 0.5, color="#f0f2f5", zorder=0)
    axis.text(longest + 0.7, 1.0, "longer than in training", fontsize=8.5, va="top")
    axis.set_xticks(record.settings["tested"])
    axis.set_ylim(-0.02, 1.03)
    figure.suptitle("Translating an invented language: a context alone and attention, equally many parameters")


SENTENCES = Experiment(
    name="sentences",
    lines=("N10", "N15"),
    claim="Encoder-decoder: many-to-one, then the context c, then one-to-many; input and output lengths differ.",
    settings={
        "num_words": 20,
        "shortest": 2,
        "longest": 14,
        "tested": [2, 4, 6, 8, 10, 12, 14, 16, 18, 20],
        "embedding_size": 16,
        "num_parameters": 30000,
        "batch_size": 32,
        "num_updates": 1500,
        "num_test": 60,
    },
    tiny={
        "num_words": 4,
        "longest": 3,
        "tested": [2, 3, 4],
        "embedding_size": 3,
        "num_parameters": 900,
        "num_updates": 4,
        "num_test": 4,
        "batch_size": 4,
    },
    tuning={"num_updates": 750},
    cases=tuple(CONTEXTS),
    columns=(
        Column("error", "wrong words, lengths of training", "share"),
        Column("shortest", "shortest", "share"),
        Column("longest", "longest", "share"),
        Column("beyond", "longer than in training", "share"),
        Column("parameters", "parameters", ""),
    ),
    run=run,
    findings=findings,
    draw=draw,
    rates=(0.003, 0.01, 0.03),
)

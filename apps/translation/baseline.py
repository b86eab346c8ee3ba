"""The feed-forward baseline: a bag of source words in, a word for every place of the translation out (notes N1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apps.translation.network import SPECIAL, SPECIAL_WITH_UNKNOWN, NetworkConfig, TextShape, TranslationNetwork
from core.nn.decoders.tokens import check_tokens, new_embedding
from core.nn.feed_forward import FeedForwardConfig
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, SummedLoss
from core.nn.placewise import PlacewiseWords
from core.nn.search import BeamConfig, Hypotheses
from data.translation import TranslationBatch

_HIDDEN = FeedForwardConfig(hidden_sizes=[512])


@dataclass(frozen=True, kw_only=True)
class BagOfWordsBaseline(NetworkConfig):
    """A network without recurrence: the mean of the source's embeddings and the place of a word give that word."""

    embedding_size: int = 256
    """Width of an embedded token and of an embedded place."""
    feed_forward: FeedForwardConfig = _HIDDEN
    """Hidden layers between them and the scores."""

    def build(self, shape: TextShape) -> TranslationNetwork:
        """See the base class."""
        return BagOfWordsNetwork(self, shape)


class BagOfWordsNetwork(TranslationNetwork):
    """Every place of the translation for itself: it sees neither the order of the source nor its own other words."""

    def __init__(self, config: BagOfWordsBaseline, shape: TextShape) -> None:
        super().__init__()
        size = config.embedding_size
        self.embedding = new_embedding(shape.source_vocabulary, embedding_size=size)
        self.words = PlacewiseWords(
            config.feed_forward,
            input_size=size,
            place_size=size,
            num_places=shape.max_length + 1,
            vocabulary_size=shape.target_vocabulary,
        )

    @property
    def has_attention(self) -> bool:
        """No."""
        return False

    @property
    def has_search(self) -> bool:
        """No: every word stands for itself."""
        return False

    def vocabulary_weights(self, side: str) -> tuple[str, ...]:
        """See the base class."""
        return ("embedding.weight",) if side == "source" else ("words.output.weight", "words.output.bias")

    def forward(
        self, source: Int[Tensor, "batch time"], lengths: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch features"]:
        """The bag: the mean of a sentence's embeddings."""
        source = check_tokens(source, lengths, vocabulary=self.embedding)
        valid = valid_steps(lengths, source.shape[1]).unsqueeze(-1)
        bag: Tensor = self.embedding(source).masked_fill(~valid, 0.0).sum(1) / lengths.unsqueeze(1)
        return bag

    def loss(
        self,
        batch: TranslationBatch,
        *,
        mean: MeanOver,
        label_smoothing: float = 0.0,
        true_probability: float = 1.0,
    ) -> SummedLoss:
        """See the base class; nothing is fed back, so `true_probability` must be 1."""
        assert true_probability == 1.0, "this network reads no target"
        return self.words.loss(
            self(batch.source, batch.source_lengths),
            batch.labels,
            batch.target_lengths,
            mean=mean,
            weight=batch.weight,
            label_smoothing=label_smoothing,
        )

    @torch.no_grad()
    def translate(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        *,
        config: BeamConfig,
        allow_unknown: bool = False,
    ) -> Hypotheses:
        """See the base class; there is one hypothesis."""
        special = SPECIAL_WITH_UNKNOWN if allow_unknown else SPECIAL
        return self.words.generate(self(source, lengths), lengths, config=config, special=special)

    @torch.no_grad()
    def score(
        self,
        source: Int[Tensor, "batch time"],
        lengths: Int[Tensor, "batch"],
        given: Sequence[Sequence[int]],
        *,
        config: BeamConfig,
    ) -> Hypotheses:
        """See the base class; a score is a log-probability, as in `translate`."""
        return self.words.score(self(source, lengths), given, special=SPECIAL)

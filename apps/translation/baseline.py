"""The feed-forward baseline: a bag of source words in, a word for every place of the translation out (notes N1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from apps.translation.network import SPECIAL, SPECIAL_WITH_UNKNOWN, NetworkConfig, TextShape, TranslationNetwork
from core.nn.decoders.tokens import check_tokens, new_embedding
from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, SummedLoss
from core.nn.search import BeamConfig, Hypotheses
from core.nn.token_losses import linear_cross_entropy
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
        # Beyond the longest translation of the training the last place serves for all.
        self.places = nn.Embedding(shape.max_length + 1, size)
        self.feed_forward = FeedForward(config.feed_forward, input_size=2 * size, output_size=size)
        self.output = nn.Linear(size, shape.target_vocabulary)

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
        return ("embedding.weight",) if side == "source" else ("output.weight", "output.bias")

    def forward(
        self, source: Int[Tensor, "batch time"], lengths: Int[Tensor, "batch"], places: Int[Tensor, "places"]
    ) -> Float[Tensor, "batch places features"]:
        """What the output layer reads at these places of the translation, counted from 0."""
        source = check_tokens(source, lengths, vocabulary=self.embedding)
        valid = valid_steps(lengths, source.shape[1]).unsqueeze(-1)
        bag = self.embedding(source).masked_fill(~valid, 0.0).sum(1) / lengths.unsqueeze(1)
        place = self.places(places.clamp(max=self.places.num_embeddings - 1))
        shape = (len(source), len(places), -1)
        joined = torch.cat([bag.unsqueeze(1).expand(*shape), place.unsqueeze(0).expand(*shape)], dim=-1)
        features: Tensor = self.feed_forward(joined)
        return features

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
        num_places = batch.labels.shape[1]
        features = self(batch.source, batch.source_lengths, torch.arange(num_places, device=batch.labels.device))
        return linear_cross_entropy(
            features,
            batch.labels,
            output=self.output,
            mask=valid_steps(batch.target_lengths, num_places),
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
        """The likeliest word of every place, up to the first end: the places are independent, and there is one hypothesis."""
        special = SPECIAL_WITH_UNKNOWN if allow_unknown else SPECIAL
        longest = torch.tensor(config.longest(lengths.tolist()), device=source.device)
        running = torch.ones(len(source), dtype=torch.bool, device=source.device)
        counted = torch.zeros_like(lengths)
        tokens: list[Tensor] = []
        chances: list[Tensor] = []
        while bool(running.any()):
            step = len(tokens)
            values = _log_probabilities(self.output(self(source, lengths, source.new_tensor([step])).squeeze(1)))
            # As in `core.nn.search`, what is ruled out is not shared among the rest.
            values[:, list(special.never_generated)] = -torch.inf
            if step + 1 < config.min_length:
                values[:, special.eos] = -torch.inf
            best, chosen = values.max(-1)
            tokens.append(chosen.masked_fill(~running, special.pad))
            chances.append(best.masked_fill(~running, 0.0))
            counted += running
            running = running & (chosen != special.eos) & (counted < longest)
        stacked = torch.stack(tokens, dim=1)
        last = stacked.gather(1, (counted - 1).unsqueeze(1)).squeeze(1)
        scores = torch.stack(chances, dim=1).sum(1, keepdim=True)
        return Hypotheses(
            stacked.unsqueeze(1), counted.unsqueeze(1), (last == special.eos).unsqueeze(1), scores, scores, None
        )

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
        counted = torch.tensor([len(tokens) + 1 for tokens in given], device=source.device)
        num_places = int(counted.max())
        ended = [[*tokens, SPECIAL.eos] for tokens in given]
        padded = [tokens + [SPECIAL.pad] * (num_places - len(tokens)) for tokens in ended]
        labels = torch.tensor(padded, dtype=torch.int64, device=source.device)
        features = self(source, lengths, torch.arange(num_places, device=source.device))
        chances = _log_probabilities(self.output(features)).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        scores = chances.masked_fill(~valid_steps(counted, num_places), 0.0).sum(1, keepdim=True)
        is_ended = torch.ones_like(counted, dtype=torch.bool)
        return Hypotheses(labels.unsqueeze(1), counted.unsqueeze(1), is_ended.unsqueeze(1), scores, scores, None)


def _log_probabilities(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))

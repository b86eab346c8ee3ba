"""Words without recurrence: one vector in, a word for every place of a text out, each place for itself (notes N1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from core.nn.feed_forward import FeedForward, FeedForwardConfig
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, SummedLoss
from core.nn.recurrence.precision import check_like
from core.nn.search import BeamConfig, Hypotheses, SpecialTokens
from core.nn.token_losses import linear_cross_entropy


class PlacewiseWords(nn.Module):
    """A feed-forward network of what is described and of a place in the description: it sees none of its other words.

    Args:
        config: hidden layers.
        input_size: width of the vector that is described.
        place_size: width of an embedded place, and of what scores are made of.
        num_places: places that are told apart; beyond them the last one serves for all.
        vocabulary_size: words to choose from.
    """

    def __init__(
        self,
        config: FeedForwardConfig,
        *,
        input_size: int,
        place_size: int,
        num_places: int,
        vocabulary_size: int,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.places = nn.Embedding(num_places, place_size)
        self.feed_forward = FeedForward(config, input_size=input_size + place_size, output_size=place_size)
        self.output = nn.Linear(place_size, vocabulary_size)

    def forward(
        self, described: Float[Tensor, "rows features"], places: Int[Tensor, "places"]
    ) -> Float[Tensor, "rows places outputs"]:
        """What the output layer reads at these places, counted from 0.

        Raises:
            ValueError: if a shape, dtype or device of what is described does not fit.
        """
        if described.ndim != 2 or described.shape[1] != self.input_size:
            raise ValueError(
                f"described must have shape (rows, {self.input_size}), one vector a row, got {tuple(described.shape)}."
            )
        check_like(described, name="described", like=self.output.weight)
        place = self.places(places.clamp(max=self.places.num_embeddings - 1))
        shape = (len(described), len(places), -1)
        joined = torch.cat([described.unsqueeze(1).expand(*shape), place.unsqueeze(0).expand(*shape)], dim=-1)
        features: Tensor = self.feed_forward(joined)
        return features

    def loss(
        self,
        described: Float[Tensor, "rows features"],
        labels: Int[Tensor, "rows places"],
        lengths: Int[Tensor, "rows"],
        *,
        mean: MeanOver,
        weight: Float[Tensor, "rows"] | None = None,
        label_smoothing: float = 0.0,
    ) -> SummedLoss:
        """Cross-entropy of the words and the end of each row.

        Args:
            described: a vector a row.
            labels: int64, the words and the end; what stands in the padding is not read.
            lengths: int64, words and end of each row, 0 for a row that is not there.
            mean: token, or sequence (notes N4).
            weight: per row, 1 for a real one and 0 for a filler; None where all are real.
            label_smoothing: share of each word's target that is spread over the vocabulary.
        """
        num_places = labels.shape[1]
        return linear_cross_entropy(
            self(described, torch.arange(num_places, device=labels.device)),
            labels,
            output=self.output,
            mask=valid_steps(lengths, num_places),
            mean=mean,
            weight=weight,
            label_smoothing=label_smoothing,
        )

    @torch.no_grad()
    def generate(
        self,
        described: Float[Tensor, "rows features"],
        lengths: Int[Tensor, "rows"],
        *,
        config: BeamConfig,
        special: SpecialTokens,
    ) -> Hypotheses:
        """The likeliest word of every place, up to the first end: the places are independent, and there is one hypothesis.

        Args:
            described: a vector a row.
            lengths: int64, of what is described: the longest text may depend on it.
            config: its limits of length; nothing else of it is read.
            special: the end, the padding and what is never chosen.
        """
        longest = torch.tensor(config.longest(lengths.tolist()), device=described.device)
        running = torch.ones(len(described), dtype=torch.bool, device=described.device)
        counted = torch.zeros_like(lengths)
        tokens: list[Tensor] = []
        chances: list[Tensor] = []
        while bool(running.any()):
            step = len(tokens)
            values = _log_probabilities(self.output(self(described, lengths.new_tensor([step])).squeeze(1)))
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
        self, described: Float[Tensor, "rows features"], given: Sequence[Sequence[int]], *, special: SpecialTokens
    ) -> Hypotheses:
        """Given texts, one a row, with their log-probabilities, as `generate` gives them.

        Args:
            described: a vector a row.
            given: words of each text, without begin and end.
            special: the end and the padding.
        """
        counted = torch.tensor([len(tokens) + 1 for tokens in given], device=described.device)
        num_places = int(counted.max())
        ended = [[*tokens, special.eos] for tokens in given]
        padded = [tokens + [special.pad] * (num_places - len(tokens)) for tokens in ended]
        labels = torch.tensor(padded, dtype=torch.int64, device=described.device)
        features = self(described, torch.arange(num_places, device=described.device))
        chances = _log_probabilities(self.output(features)).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        scores = chances.masked_fill(~valid_steps(counted, num_places), 0.0).sum(1, keepdim=True)
        is_ended = torch.ones_like(counted, dtype=torch.bool)
        return Hypotheses(labels.unsqueeze(1), counted.unsqueeze(1), is_ended.unsqueeze(1), scores, scores, None)


def _log_probabilities(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))

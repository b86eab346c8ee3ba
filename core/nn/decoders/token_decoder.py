"""A recurrent decoder of tokens: embedding, decoder, a score for every word of the vocabulary (notes N10, N15, N16)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from core.nn.decoders.bridge import Source, SourceShape
from core.nn.decoders.decoder import Decoder
from core.nn.decoders.decoder_config import DecoderConfig
from core.nn.decoders.decoder_loop import CarriedState
from core.nn.decoders.loop_products import LoopEmbedding, LoopProducts, apply_linear
from core.nn.decoders.tokens import check_tokens, new_embedding
from core.nn.doubly_stochastic import doubly_stochastic_loss
from core.nn.lengths import valid_steps
from core.nn.losses import MeanOver, SummedLoss
from core.nn.step_decoder import StepOutput
from core.nn.teacher_forcing import check_probability, draw_true_steps
from core.nn.token_losses import cross_entropy, linear_cross_entropy

Feedback = Literal["argmax", "sample"]


@dataclass(frozen=True, kw_only=True)
class TokenDecoderConfig:
    """A decoder of tokens."""

    decoder: DecoderConfig
    """The decoder between embedding and scores."""
    embedding_size: int
    """Width of an embedded token."""
    embedding_dropout: float = 0.0
    """Probability of zeroing a unit of an embedded token, in [0, 1)."""
    tie_embeddings: bool = False
    """Score with the embedding table (Press & Wolf, EACL 2017); readout and embedding are then equally wide."""
    feedback: Feedback = "argmax"
    """The prediction that scheduled sampling and free running feed back: argmax or a sample of the distribution."""

    def __post_init__(self) -> None:
        if self.embedding_size < 1:
            raise ValueError(f"embedding_size must be at least 1, got {self.embedding_size}.")
        if not 0.0 <= self.embedding_dropout < 1.0:
            raise ValueError(f"embedding_dropout must be in [0, 1), got {self.embedding_dropout}.")
        if self.tie_embeddings and self.embedding_size != self.decoder.output_size:
            raise ValueError(
                "tie_embeddings=true needs a readout as wide as an embedding, got "
                f"{self.decoder.output_size} and embedding_size={self.embedding_size}. Set readout_size to "
                f"{self.embedding_size}, or hidden_size where readout is 'state'."
            )
        if self.feedback not in get_args(Feedback):
            raise ValueError(f"feedback must be one of {', '.join(get_args(Feedback))}, got {self.feedback!r}.")


class TokenOutput(NamedTuple):
    """What a decoder of tokens gives for a whole target."""

    logits: Float[Tensor, "rows time vocabulary"]
    """Unnormalised log-probabilities of the token after each step's; zeros in the padding."""
    attention: Float[Tensor, "rows time source"] | None
    """Weights over the source steps, zeros in the padding of both; None without attention."""
    state: CarriedState
    """The state after each target's last valid step."""


class TokenDecoder(nn.Module):
    """Reads tokens, scores the next ones (a `core.nn.step_decoder.StepDecoder`)."""

    def __init__(self, config: TokenDecoderConfig, *, vocabulary_size: int, source: SourceShape) -> None:
        super().__init__()
        self.config = config
        self.embedding = new_embedding(vocabulary_size, embedding_size=config.embedding_size)
        self.decoder = Decoder(config.decoder, input_size=config.embedding_size, source=source)
        self.output = nn.Linear(self.decoder.output_size, vocabulary_size)
        if config.tie_embeddings:
            self.output.weight = self.embedding.weight

    def start(self, source: Source) -> CarriedState:
        """The state before the first token: one hypothesis an example, the source projected once for all steps."""
        return self.decoder.start(source)

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        lengths: Int[Tensor, "rows"] | None,
        state: CarriedState,
        *,
        true_probability: float = 1.0,
    ) -> TokenOutput:
        """Read a target and score, at every step, the token after it.

        Args:
            tokens: int64, what is read: the target moved on by one, from the token that begins every target. What
                stands in the padding is not read.
            lengths: int64, valid steps of each row, 0 to time; None where every step is valid.
            state: what `start` gave, or the state after the steps before.
            true_probability: how often a step reads its token, and not what was predicted at the step before; 1 is
                teacher forcing, 0 free running (`core.nn.teacher_forcing`). The first step always reads its token.

        Raises:
            ValueError: if a shape, dtype or device does not fit, or, on CPU, a token is not in the vocabulary.
        """
        check_probability(true_probability)
        tokens = check_tokens(tokens, lengths, vocabulary=self.embedding)
        if true_probability < 1.0:
            return self._run_feedback(tokens, lengths, state, true_probability)
        features, attention, state = self.decoder(self._drop(self.embedding(tokens)), lengths, state)
        return TokenOutput(self._mask(self._score(features), lengths), attention, state)

    def loss(
        self,
        tokens: Int[Tensor, "rows time"],
        lengths: Int[Tensor, "rows"],
        state: CarriedState,
        *,
        labels: Int[Tensor, "rows time"],
        mean: MeanOver,
        weight: Float[Tensor, "rows"] | None = None,
        label_smoothing: float = 0.0,
        true_probability: float = 1.0,
        doubly_stochastic: float = 0.0,
        impossible: Sequence[int] = (),
    ) -> SummedLoss:
        """Cross-entropy of the tokens after each step's, without ever holding all scores where tokens are all known.

        Args:
            tokens: what is read, as in `forward`.
            lengths: int64, valid steps of each row.
            state: what `start` gave.
            labels: int64, the token after each step's; what stands in the padding is not read.
            mean: which mean `sum / count` is.
            weight: per row, 1 for a real example and 0 for a filler; None where all are real.
            label_smoothing: share of the target that is spread over the vocabulary (`core.nn.token_losses`).
            true_probability: how often a step reads its token, as in `forward`.
            doubly_stochastic: how much of `core.nn.doubly_stochastic` is added; needs attention.
            impossible: tokens of probability 0, as those that a search never gives (`core.nn.token_losses`).

        Raises:
            ValueError: see `forward`; also for a label that is not in the vocabulary, on CPU.
        """
        check_probability(true_probability)
        if impossible and true_probability < 1.0:
            raise ValueError(f"impossible={list(impossible)} needs true_probability=1, got {true_probability}.")
        if doubly_stochastic and self.decoder.attention is None:
            raise ValueError(f"doubly_stochastic={doubly_stochastic} is about attention, and this decoder has none.")
        labels = check_tokens(labels, lengths, vocabulary=self.embedding)
        mask = valid_steps(lengths, tokens.shape[1])
        if true_probability < 1.0:
            logits, attention, _ = self(tokens, lengths, state, true_probability=true_probability)
            loss = cross_entropy(logits, labels, mask=mask, mean=mean, weight=weight, label_smoothing=label_smoothing)
        else:
            tokens = check_tokens(tokens, lengths, vocabulary=self.embedding)
            features, attention, _ = self.decoder(self._drop(self.embedding(tokens)), lengths, state)
            loss = linear_cross_entropy(
                features,
                labels,
                output=self.output,
                mask=mask,
                mean=mean,
                weight=weight,
                label_smoothing=label_smoothing,
                impossible=impossible,
            )
        if not doubly_stochastic:
            return loss
        assert attention is not None, "checked above"
        assert state.memory is not None, "checked by the decoder"
        source = state.memory.mask
        source = source.repeat_interleave(len(tokens) // len(source), dim=0)
        penalty = doubly_stochastic_loss(attention, lengths, source_mask=source, mean=mean, weight=weight)
        return SummedLoss(loss.sum + doubly_stochastic * penalty.sum, loss.count)

    def generate(
        self, first: Int[Tensor, "rows"], state: CarriedState, *, num_steps: int
    ) -> tuple[Int[Tensor, "rows time"], TokenOutput]:
        """Run freely for `num_steps` steps from the token `first`: what was predicted, and the scores it was taken from."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
        _check_one_a_row(first, name="first")
        tokens = first.unsqueeze(1).expand(-1, num_steps)
        check_tokens(tokens, None, vocabulary=self.embedding)
        predictions: list[Tensor] = []
        output = self._run_feedback(tokens, None, state, 0.0, predictions)
        return torch.stack(predictions, dim=1), output

    def step(self, tokens: Int[Tensor, "rows"], state: CarriedState) -> StepOutput[CarriedState]:
        """Read one token a hypothesis and score every candidate for the next; see `StepDecoder`.

        Raises:
            ValueError: if a shape, dtype or device does not fit, or, on CPU, a token is not in the vocabulary.
        """
        _check_one_a_row(tokens, name="tokens")
        tokens = check_tokens(tokens.unsqueeze(1), None, vocabulary=self.embedding).squeeze(1)
        features, attention, state = self.decoder.step(self._drop(self.embedding(tokens)), state)
        return StepOutput(logits=self._score(features), state=state, attention=attention)

    def _run_feedback(
        self,
        tokens: Tensor,
        lengths: Tensor | None,
        state: CarriedState,
        true_probability: float,
        predictions: list[Tensor] | None = None,
    ) -> TokenOutput:
        num_rows, num_steps = tokens.shape
        self.decoder.check_state(state, num_rows=num_rows)
        true = draw_true_steps(true_probability, num_rows=num_rows, num_steps=num_steps, device=tokens.device)
        running = None if lengths is None else valid_steps(lengths, num_steps)
        loop = self.decoder.loop(state, num_steps=num_steps)
        embed = LoopEmbedding(self.embedding.weight, num_steps=num_steps)
        score = LoopProducts(num_steps)([self.output.weight], bias=self.output.bias)
        predicted = tokens[:, 0]
        logits, attention = [], []
        for step in range(num_steps):
            given = torch.where(true[:, step], tokens[:, step], predicted)
            features, weights = loop(
                self._drop(embed(given)), None if running is None else running[:, step].unsqueeze(1)
            )
            scores = score(self.decoder.drop(features))
            predicted = self._choose(scores.detach())
            if predictions is not None:
                predictions.append(predicted)
            logits.append(scores)
            if weights is not None:
                attention.append(weights)
        weights = self._mask(torch.stack(attention, dim=1), lengths) if attention else None
        return TokenOutput(self._mask(torch.stack(logits, dim=1), lengths), weights, loop.state())

    def _choose(self, scores: Tensor) -> Tensor:
        if self.config.feedback == "argmax":
            return scores.argmax(-1)
        return torch.multinomial(scores.float().softmax(-1), 1).squeeze(1)

    def _drop(self, embedded: Tensor) -> Tensor:
        return F.dropout(embedded, self.config.embedding_dropout, self.training)

    def _score(self, features: Tensor) -> Tensor:
        return apply_linear(features, self.output.weight, self.output.bias)

    @staticmethod
    def _mask(values: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return values
        return values.masked_fill(~valid_steps(lengths, values.shape[1]).unsqueeze(-1), 0.0)


def _check_one_a_row(tokens: Tensor, *, name: str) -> None:
    if tokens.ndim != 1:
        raise ValueError(f"{name} must have shape (rows,), one token a row, got {tuple(tokens.shape)}.")

"""What a search over a step decoder returns."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Hypotheses(NamedTuple):
    """The hypotheses of every example: best first, or sample by sample.

    Where a search found fewer than were asked for, the rest have length 0 and a score of minus infinity.
    """

    tokens: Int[Tensor, "examples hypotheses time"]
    """int64; a forced prefix and the end of sequence included, padded behind the length."""
    lengths: Int[Tensor, "examples hypotheses"]
    """int64, tokens of each hypothesis, the end of sequence included."""
    finished: Bool[Tensor, "examples hypotheses"]
    """True where the last token is the end of sequence, False where a hypothesis was cut at its longest length."""
    scores: Float[Tensor, "examples hypotheses"]
    """What beam search ranks by (penalties included); log-probability under what a sample was drawn from."""
    log_probabilities: Float[Tensor, "examples hypotheses"]
    """log P(Y|X) of the decoder, natural logarithm, forced tokens included."""
    attention: Float[Tensor, "examples hypotheses time source"] | None
    """Weights with which each token was chosen, zero behind the length; None for a decoder without attention."""

    def token_lists(self) -> list[list[list[int]]]:
        """Tokens of every hypothesis of every example, without padding and end of sequence; none where none was found."""
        sizes = (self.lengths - self.finished.long()).tolist()
        return [
            [tokens[:size] for tokens, size, length in zip(rows, row_sizes, row_lengths, strict=True) if length > 0]
            for rows, row_sizes, row_lengths in zip(self.tokens.tolist(), sizes, self.lengths.tolist(), strict=True)
        ]

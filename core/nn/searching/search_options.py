"""Settings of the searches over a step decoder (`core.nn.search`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Token ids with a meaning of their own. `bos` may be the same id as `eos` or `pad`, as in some vocabularies."""

    bos: int
    """First token a decoder reads; never generated."""
    eos: int
    """Ends a hypothesis and belongs to it: it is scored and counted in its length."""
    pad: int
    """What stands after the end of a hypothesis; never generated."""
    forbidden: tuple[int, ...] = ()
    """Further ids that are never generated, such as that of unknown words; a forced prefix may hold them."""

    def __post_init__(self) -> None:
        for name, token in (("bos", self.bos), ("eos", self.eos), ("pad", self.pad)):
            if token < 0:
                raise ValueError(f"{name} must be a token id, at least 0, got {token}.")
        for token in self.forbidden:
            if token < 0:
                raise ValueError(f"forbidden must hold token ids, at least 0, got {token}.")
            if token == self.eos:
                raise ValueError(
                    f"forbidden holds {token}, the end of sequence: no hypothesis could end. Remove it; min_length puts "
                    "the end off."
                )

    @property
    def never_generated(self) -> tuple[int, ...]:
        """All ids that no search may choose, ascending."""
        return tuple(sorted({self.bos, self.pad, *self.forbidden} - {self.eos}))


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """How long a hypothesis may get and what it may not repeat. A length counts a forced prefix and the end of sequence."""

    max_length: int
    """Most tokens of a hypothesis; one that gets there without an end of sequence is returned as unfinished."""
    min_length: int = 1
    """Fewest tokens of a hypothesis: the end of sequence is put off until then."""
    max_length_ratio: float | None = None
    """Also at most max_length_ratio x source length + max_length_offset tokens, though never below min_length."""
    max_length_offset: int = 0
    """Tokens on top of max_length_ratio x source length."""
    no_repeat_ngram: int | None = None
    """No run of this many tokens occurs twice in a hypothesis, but for what its forced prefix repeats; None allows all."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(
                f"min_length and max_length must satisfy 1 <= min_length <= max_length, got {self.min_length} and "
                f"{self.max_length}."
            )
        if self.max_length_ratio is not None and not 0 < self.max_length_ratio < math.inf:
            raise ValueError(f"max_length_ratio must be a number above 0, got {self.max_length_ratio}.")
        if self.max_length_ratio is None and self.max_length_offset != 0:
            raise ValueError(
                f"max_length_offset={self.max_length_offset} does nothing without max_length_ratio: "
                "remove it or set max_length_ratio."
            )
        if self.no_repeat_ngram is not None and not 1 <= self.no_repeat_ngram < self.max_length:
            raise ValueError(
                f"no_repeat_ngram must be at least 1 and below max_length={self.max_length} (longer runs cannot occur "
                f"twice), got {self.no_repeat_ngram}."
            )

    def longest(self, source_lengths: Sequence[int]) -> list[int]:
        """Most tokens of a hypothesis of each example."""
        if self.max_length_ratio is None:
            return [self.max_length] * len(source_lengths)
        offset = self.max_length_offset
        relative = (math.floor(self.max_length_ratio * length) + offset for length in source_lengths)
        return [min(self.max_length, max(self.min_length, length)) for length in relative]


@dataclass(frozen=True, kw_only=True)
class GreedyConfig(SearchLimits):
    """The likeliest token at every step."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig(SearchLimits):
    """The best hypotheses that a beam of live ones leads to.

    Ranked by log P(Y|X) / lp(Y) + cp(X, Y) of Wu et al., arXiv:1609.08144, eq. 14.
    """

    beam_size: int
    """Live hypotheses of an example; 1 is greedy search."""
    num_best: int = 1
    """Hypotheses returned for each example, best first."""
    length_penalty: float = 0.0
    """alpha of lp(Y) = ((5 + |Y|) / 6) ** alpha; 0 ranks by log-probability, more favours longer hypotheses."""
    coverage_penalty: float = 0.0
    """beta of cp(X, Y) = beta * sum over source steps of log min(attention received, 1); needs a decoder with attention."""
    patience: float = 1.0
    """An example stops at beam_size x patience ended hypotheses, or before, once no live one can win; .inf: only then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam_size < 1:
            raise ValueError(f"beam_size must be at least 1, got {self.beam_size}.")
        if not 1 <= self.num_best <= self.beam_size:
            raise ValueError(
                f"num_best must be between 1 and beam_size={self.beam_size}, got {self.num_best}. Widen the beam or ask "
                "for fewer."
            )
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty must be finite, got {self.length_penalty}.")
        if not 0 <= self.coverage_penalty < math.inf:
            raise ValueError(f"coverage_penalty must be finite and at least 0, got {self.coverage_penalty}.")
        if not self.patience >= 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}: fewer might not fill the beam.")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(SearchLimits):
    """Hypotheses drawn from the decoder's distribution, token by token."""

    seed: int
    """0 to 2 ** 32 - 1. A draw is a function of (seed, key of the example, number of the sample, step) alone."""
    num_samples: int = 1
    """Hypotheses drawn for each example, each independent of the others."""
    temperature: float = 1.0
    """Log-probabilities are divided by it: below 1 sharper, above 1 flatter."""
    top_k: int | None = None
    """Draw from this many likeliest tokens; None for all (Fan et al., ACL 2018, section 5.4)."""
    top_p: float | None = None
    """Draw from the fewest likeliest tokens that hold this probability, of those that top_k leaves; None for all.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be between 0 and 2 ** 32 - 1, got {self.seed}.")
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be a number above 0, got {self.temperature}. For the likeliest token use greedy search."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}.")
        if self.top_k == 1 and self.num_samples > 1:
            raise ValueError(f"top_k=1 draws the same {self.num_samples} times: use greedy search or a larger top_k.")
        if self.top_p is not None and not 0 < self.top_p < 1:
            raise ValueError(
                f"top_p must be above 0 and below 1, got {self.top_p}. To draw from all tokens leave it out."
            )


SearchConfig = GreedyConfig | BeamConfig | SamplingConfig

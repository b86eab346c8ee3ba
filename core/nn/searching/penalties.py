"""What a hypothesis is ranked by beside its log-probability: log P(Y|X) / lp(Y) + cp(X, Y).

Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, eq. 14.
"""

from jaxtyping import Float, Int
from torch import Tensor

from core.nn.lengths import valid_steps
from core.nn.searching.search_options import BeamConfig

# Attention that never reached a source step would make the coverage penalty infinite, and every hypothesis equal.
_LEAST_COVERAGE = 1e-6


def check_coverage(config: BeamConfig, *, attention: Tensor | None) -> None:
    """Refuse a coverage penalty without attention.

    Raises:
        ValueError: saying so.
    """
    if config.coverage_penalty > 0 and attention is None:
        raise ValueError(
            f"coverage_penalty={config.coverage_penalty} needs attention, and this decoder gives none. Set it to 0."
        )


def length_penalties_of(config: BeamConfig, *, num_steps: int, like: Tensor) -> Float[Tensor, "steps"]:
    """lp(Y) of every length 0 to `num_steps`: ((5 + |Y|) / 6) ** alpha."""
    return like.new_tensor([((5 + length) / 6) ** config.length_penalty for length in range(num_steps + 1)])


def coverage_penalty_of(
    coverage: Float[Tensor, "examples hypotheses source"] | None,
    *,
    source_lengths: Int[Tensor, "examples"],
    config: BeamConfig,
) -> Float[Tensor, "examples hypotheses"] | None:
    """cp(X, Y) of each hypothesis, at most 0; None without a penalty.

    Args:
        coverage: attention that each source step has received; None without a penalty.
        source_lengths: int64, source steps of each example.
        config: the search.
    """
    if coverage is None:
        return None
    logs = coverage.clamp(min=_LEAST_COVERAGE, max=1).log()
    padding = ~valid_steps(source_lengths, coverage.shape[-1])
    return config.coverage_penalty * logs.masked_fill(padding.unsqueeze(1), 0).sum(-1)

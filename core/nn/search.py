"""Search over any step decoder: greedy, beam and sampling (notes N7, N15, N16), alone or as an ensemble.

Every example is searched as if it were alone: neither the batch nor its order changes a result, and an example that is
done leaves the batch at once. This is host code: it runs without gradients and is not exported.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from core.nn.searching.beam_search import beam_search
from core.nn.searching.hypotheses import Hypotheses
from core.nn.searching.sampling import GreedyChoice, RandomChoice, generate
from core.nn.searching.scoring import score_given
from core.nn.searching.search_options import BeamConfig, GreedyConfig, SamplingConfig, SearchConfig, SpecialTokens
from core.nn.searching.token_rules import TokenRules
from core.nn.step_decoder import State, StepDecoder

__all__ = [
    "BeamConfig",
    "GreedyConfig",
    "Hypotheses",
    "SamplingConfig",
    "SearchConfig",
    "SpecialTokens",
    "score",
    "search",
]


@torch.no_grad()
def search(
    decoder: StepDecoder[State],
    *,
    state: State,
    config: SearchConfig,
    special: SpecialTokens,
    source_lengths: Int[Tensor, "examples"],
    prefixes: Sequence[Sequence[int]] | None = None,
    keys: Int[Tensor, "examples"] | None = None,
) -> Hypotheses:
    """The hypotheses of every example that `config` asks for.

    Args:
        decoder: scores the next token; an `Ensemble` for several at once.
        state: the decoder's before the first token, one row an example.
        config: which search. A beam of 1 is greedy search.
        special: the ids of the start, the end, padding and of what is never generated.
        source_lengths: int64, steps of each example's source, as the decoder's attention counts them. Results are on
            its device.
        prefixes: token ids that the hypotheses of each example start with, possibly none; None for none at all. They are
            scored and counted like others, and may hold forbidden ids.
        keys: int64, 0 to 2 ** 32 - 1, what names each example (its number in the data set): sampling alone reads them,
            so that a draw does not depend on an example's place in a batch.

    Raises:
        ValueError: if an input or a setting does not fit; if the decoder gives NaN or leaves an example without a
            permitted token. The message names the example.
    """
    if source_lengths.dtype != torch.int64 or source_lengths.ndim != 1 or source_lengths.shape[0] == 0:
        raise ValueError(
            "source_lengths must be int64 of shape (examples >= 1,), got "
            f"{source_lengths.dtype} of shape {tuple(source_lengths.shape)}."
        )
    rules = TokenRules(config, special=special, source_lengths=source_lengths, prefixes=prefixes)
    if isinstance(config, BeamConfig):
        return beam_search(decoder, state=state, rules=rules, config=config, source_lengths=source_lengths)
    if isinstance(config, GreedyConfig):
        return generate(decoder, state=state, rules=rules, choice=GreedyChoice())
    if keys is None:
        raise ValueError(
            "sampling needs keys, one number that names each example (such as its number in the data set): a draw "
            "that followed an example's place in the batch would change with the batch."
        )
    choice = RandomChoice(
        config, keys=keys.to(source_lengths.device), num_examples=source_lengths.shape[0], num_steps=rules.num_steps
    )
    return generate(decoder, state=state, rules=rules, choice=choice)


@torch.no_grad()
def score(
    decoder: StepDecoder[State],
    *,
    state: State,
    given: Sequence[Sequence[int]],
    config: BeamConfig,
    special: SpecialTokens,
    source_lengths: Int[Tensor, "examples"],
) -> Hypotheses:
    """Given hypotheses, one an example, with what a beam search that found them would say of them.

    Args:
        decoder: scores the next token; an `Ensemble` for several at once.
        state: the decoder's before the first token, one row an example.
        given: token ids of each hypothesis, without start and end.
        config: its penalties make the score; nothing else of it is read.
        special: the ids of the start, the end and padding. The end belongs to a hypothesis and is scored with it.
        source_lengths: int64, steps of each example's source.

    Raises:
        ValueError: if an input does not fit, or the decoder gives NaN. The message names the example.
    """
    return score_given(decoder, state=state, given=given, config=config, special=special, source_lengths=source_lengths)

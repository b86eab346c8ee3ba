"""Greedy search and sampling: hypotheses that go on independently of each other (notes N7)."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.nn.searching.counter_random import uniform
from core.nn.searching.hypotheses import Hypotheses
from core.nn.searching.largest import largest
from core.nn.searching.search_options import SamplingConfig
from core.nn.searching.step_outputs import check_output, raise_broken, raise_stuck
from core.nn.searching.token_rules import TokenRules
from core.nn.step_decoder import State, StepDecoder

# Likeliest tokens looked at first in search of those that hold top_p; most distributions need no more.
_FIRST_GUESS = 64


class Choice(ABC):
    """How the next token of each hypothesis is chosen."""

    num_hypotheses: int
    """Hypotheses of an example."""

    @abstractmethod
    def choose(
        self, values: Float[Tensor, "rows vocabulary"], *, examples: Int[Tensor, "examples"], step: int
    ) -> tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]:
        """A token for each row, and its log-probability under what it was chosen from.

        Args:
            values: log-probabilities, minus infinity for what is ruled out.
            examples: places in the batch of the examples, which have the same number of rows each.
            step: number of tokens before.
        """


class GreedyChoice(Choice):
    """The likeliest token; of equally likely ones the lowest id."""

    num_hypotheses = 1

    def choose(
        self, values: Float[Tensor, "rows vocabulary"], *, examples: Int[Tensor, "examples"], step: int
    ) -> tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]:
        """Scored by the decoder's own log-probability."""
        scores, tokens = largest(values, 1)
        return tokens.squeeze(-1), scores.squeeze(-1)


class RandomChoice(Choice):
    """A token drawn from the decoder's distribution, sharpened and cut as `config` says."""

    def __init__(
        self, config: SamplingConfig, *, keys: Int[Tensor, "examples"], num_examples: int, num_steps: int
    ) -> None:
        if keys.dtype != torch.int64 or keys.shape != (num_examples,):
            raise ValueError(
                f"keys must be int64 of shape ({num_examples},), one per example, got {keys.dtype} of shape "
                f"{tuple(keys.shape)}."
            )
        outside = ((keys < 0) | (keys >= 2**32)).tolist()
        if any(outside):
            place = outside.index(True)
            raise ValueError(f"keys must be between 0 and 2 ** 32 - 1, got keys[{place}] = {int(keys[place])}.")
        self.config = config
        self.num_hypotheses = config.num_samples
        self.chances = uniform(keys, seed=config.seed, num_samples=config.num_samples, num_steps=num_steps)

    def choose(
        self, values: Float[Tensor, "rows vocabulary"], *, examples: Int[Tensor, "examples"], step: int
    ) -> tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]:
        """By inverting the cumulative distribution at one uniform number a row."""
        weights, columns = self._weights(values)
        cumulative = weights.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:].contiguous()
        per_example = values.shape[0] // examples.shape[0]
        chance = self.chances[examples, :per_example, step].reshape(-1, 1)
        place = torch.searchsorted(cumulative, chance * total, right=True)
        # A product that rounds up to the whole would otherwise fall behind the last token that has a chance.
        place = torch.minimum(place, torch.searchsorted(cumulative, total)).clamp(max=weights.shape[1] - 1)
        scores = (weights.gather(1, place) / total).log().to(values.dtype)
        tokens = place if columns is None else columns.gather(1, place)
        return tokens.squeeze(-1), scores.squeeze(-1)

    def _weights(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Probabilities, and the tokens they belong to (None: all, in order); their sum need not be 1."""
        top_k, top_p = self.config.top_k, self.config.top_p
        if self.config.temperature != 1:
            # From the largest down, so that a temperature near 0 leaves a 0 there and no infinity.
            values = (values - values.amax(-1, keepdim=True)) / self.config.temperature
        if top_k is not None:
            if top_k >= values.shape[1]:
                raise ValueError(
                    f"top_k={top_k} cuts nothing from a vocabulary of {values.shape[1]} tokens: lower it or leave it out."
                )
            kept, columns = largest(values, top_k)
            weights = kept.softmax(-1)
            return (weights if top_p is None else _nucleus(weights, top_p)), columns
        if top_p is None:
            return values.softmax(-1), None
        norm = values.logsumexp(-1, keepdim=True)
        # Elsewhere than on a CPU a look at the values costs more than a sort of whole rows.
        num = min(_FIRST_GUESS, values.shape[1]) if values.device.type == "cpu" else values.shape[1]
        while True:
            kept, columns = largest(values, num)
            weights = (kept - norm).exp()
            if num == values.shape[1] or bool((weights.sum(-1, dtype=torch.float64) >= top_p).all()):
                return _nucleus(weights, top_p), columns
            num = min(4 * num, values.shape[1])


class _Progress(NamedTuple):
    """What has been written of each hypothesis of the examples still searched: (examples, hypotheses)."""

    active: Tensor
    """False once a hypothesis has ended."""
    lengths: Tensor
    finished: Tensor
    scores: Tensor
    totals: Tensor

    def at(self, examples: Tensor) -> "_Progress":
        return _Progress(*(part[examples] for part in self))

    def widened(self, num: int) -> "_Progress":
        return _Progress(*(part.expand(-1, num) for part in self))


def generate(decoder: StepDecoder[State], *, state: State, rules: TokenRules, choice: Choice) -> Hypotheses:
    """See `core.nn.search.search`. The hypotheses of an example are returned in the order of their numbers."""
    device = rules.longest.device
    special = rules.special
    num_examples = rules.longest.shape[0]
    num = choice.num_hypotheses
    examples = torch.arange(num_examples, device=device)
    output = decoder.step(torch.full_like(examples, special.bos), state)
    check_output(output, num_rows=num_examples, like=None)
    rules.check_vocabulary(output.logits.shape[1])
    rules.check_attention(output.attention)
    first_attention = output.attention
    history = None
    if rules.limits.no_repeat_ngram is not None:
        history = torch.zeros(num_examples, 0, dtype=torch.int64, device=device)
    zeros = output.logits.new_zeros(num_examples, 1, dtype=torch.promote_types(output.logits.dtype, torch.float32))
    progress = _Progress(zeros == 0, zeros.long(), zeros != 0, zeros, zeros)
    trace: list[tuple[Tensor, Tensor, Tensor | None]] = []
    done: list[tuple[Tensor, _Progress]] = []
    for step in range(rules.num_steps):
        values, broken = rules.log_probabilities(output.logits, step=step, history=history)
        any_broken = (broken & progress.active.flatten()).reshape(progress.active.shape).any(-1)
        rows = torch.arange(values.shape[0], device=device)
        if progress.active.shape[1] < num and not rules.all_forced(step):
            # Up to here all hypotheses of an example are the same: one row stands for them.
            rows = rows.repeat_interleave(num)
            values, progress = values[rows], progress.widened(num)
        shape = progress.active.shape
        tokens, scores = (part.reshape(shape) for part in choice.choose(values, examples=examples, step=step))
        gains = values.gather(1, tokens.reshape(-1, 1)).reshape(shape)
        stuck = (progress.active & (gains == -torch.inf)).any(-1)
        tokens = tokens.masked_fill(~progress.active, special.pad)
        attention = None if output.attention is None else output.attention[rows].reshape(*shape, -1)
        trace.append((examples, tokens, attention))
        progress = _go_on(progress, tokens=tokens, scores=scores, gains=gains, rules=rules, step=step)
        # The one place in a step where the host waits for the device.
        flags = torch.stack([~progress.active.any(-1), any_broken, stuck]).tolist()
        raise_broken(flags[1], examples=examples, step=step)
        raise_stuck(flags[2], examples=examples)

        kept = [place for place, stop in enumerate(flags[0]) if not stop]
        whole = len(kept) == len(flags[0])
        if not whole:
            stopped = torch.tensor([place for place, stop in enumerate(flags[0]) if stop], device=device)
            done.append((examples[stopped], progress.at(stopped).widened(num)))
        if not kept:
            break
        index = torch.tensor(kept, device=device)
        rows, next_tokens = rows.reshape(shape)[index].flatten(), tokens[index].flatten()
        if history is not None:
            history = torch.cat([history[rows], next_tokens.unsqueeze(-1)], dim=1)
        state = output.state
        if not whole or rows.shape[0] != output.logits.shape[0]:
            state = state.select(rows, examples=None if whole else index)
        if not whole:
            rules.keep(kept)
            examples, progress = examples[index], progress.at(index)
        output = decoder.step(next_tokens, state)
        check_output(output, num_rows=next_tokens.shape[0], like=first_attention)
    order = torch.cat([places for places, _ in done]).argsort()
    ended = _Progress(*(torch.cat(parts)[order] for parts in zip(*(found for _, found in done), strict=True)))
    return _collect(ended, trace, pad=special.pad)


def _go_on(
    progress: _Progress, *, tokens: Tensor, scores: Tensor, gains: Tensor, rules: TokenRules, step: int
) -> _Progress:
    """What was written before and `tokens`, which what has ended does not take up."""
    active = progress.active
    is_eos = active & (tokens == rules.special.eos)
    return _Progress(
        active=active & ~is_eos & (rules.longest > step + 1).unsqueeze(-1),
        lengths=progress.lengths + active.long(),
        finished=progress.finished | is_eos,
        scores=torch.where(active, progress.scores + scores, progress.scores),
        totals=torch.where(active, progress.totals + gains, progress.totals),
    )


def _collect(ended: _Progress, trace: list[tuple[Tensor, Tensor, Tensor | None]], *, pad: int) -> Hypotheses:
    """Put the steps side by side."""
    num_examples, num = ended.lengths.shape
    device = ended.lengths.device
    tokens = torch.full((num_examples, num, len(trace)), pad, dtype=torch.int64, device=device)
    given = trace[0][2]
    attention = None if given is None else given.new_zeros(num_examples, num, len(trace), given.shape[-1])
    for step, (examples, chosen, weights) in enumerate(trace):
        tokens[examples, :, step] = chosen.expand(-1, num)
        if attention is not None and weights is not None:
            behind = (ended.lengths[examples] <= step).unsqueeze(-1)
            attention[examples, :, step] = weights.expand(-1, num, -1).masked_fill(behind, 0)
    return Hypotheses(
        tokens=tokens,
        lengths=ended.lengths,
        finished=ended.finished,
        scores=ended.scores,
        log_probabilities=ended.totals,
        attention=attention,
    )


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Of descending probabilities, zero for those that the ones before need not to hold `top_p` together."""
    before = weights.cumsum(-1, dtype=torch.float64) - weights
    return weights.masked_fill(before >= top_p, 0)

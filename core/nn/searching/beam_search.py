"""Beam search (notes N15, N16): the best hypotheses of every example, in one batch.

Each step takes the 2 x beam_size best continuations of an example's live hypotheses. What ends among the first
beam_size of them is ended; the first beam_size that do not end live on. As an end takes at most one continuation from each live
hypothesis, enough are always left.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.nn.searching.hypotheses import Hypotheses
from core.nn.searching.largest import largest
from core.nn.searching.penalties import check_coverage, coverage_penalty_of, length_penalties_of
from core.nn.searching.search_options import BeamConfig
from core.nn.searching.step_outputs import check_output, raise_broken, raise_stuck
from core.nn.searching.token_rules import TokenRules
from core.nn.step_decoder import State, StepDecoder, StepOutput


class _Live(NamedTuple):
    """Hypotheses that go on: best first, of all examples still searched."""

    totals: Tensor
    """(examples, width) log-probability so far; minus infinity where an example has fewer hypotheses."""
    coverage: Tensor | None
    """(examples, width, source) attention received so far; None without coverage penalty."""
    history: Tensor | None
    """(rows, steps) tokens so far; None where repeats are allowed."""

    def following(self, rows: Tensor, *, totals: Tensor, tokens: Tensor) -> "_Live":
        """What lives after `tokens` were added to the hypotheses at `rows`."""
        coverage, history = self.coverage, self.history
        if coverage is not None:
            coverage = coverage.flatten(0, 1)[rows].reshape(*totals.shape, -1)
        if history is not None:
            history = torch.cat([history[rows], tokens.unsqueeze(-1)], dim=1)
        return _Live(totals, coverage, history)


class _Continuations(NamedTuple):
    """The best ways to go on, best first: (examples, 2 x width of the next step)."""

    totals: Tensor
    parents: Tensor
    tokens: Tensor


class _Ended(NamedTuple):
    """The best ended hypotheses of each example, best first: (examples, num_best)."""

    scores: Tensor
    totals: Tensor
    lengths: Tensor
    """0 where there is none."""
    parents: Tensor
    """Place among the live hypotheses of what the last token was added to."""
    tokens: Tensor
    """The last token."""

    def at(self, examples: Tensor) -> "_Ended":
        return _Ended(*(part[examples] for part in self))


class _Step(NamedTuple):
    """What one step leaves behind, to read the hypotheses from once all have ended."""

    examples: Tensor
    parents: Tensor
    """(examples, next width) whom each new live hypothesis continues ..."""
    tokens: Tensor
    """... and with what."""
    attention: Tensor | None
    """(examples, width, source) of the hypotheses that were continued."""


def beam_search(
    decoder: StepDecoder[State], *, state: State, rules: TokenRules, config: BeamConfig, source_lengths: Tensor
) -> Hypotheses:
    """See `core.nn.search.search`.

    Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, section 7. Stopping at beam_size x
    patience ended hypotheses: Kasai et al., "A Call for Clarity in Beam Search", LREC 2024.
    """
    device = source_lengths.device
    examples = torch.arange(source_lengths.shape[0], device=device)
    output = decoder.step(torch.full_like(examples, rules.special.bos), state)
    check_output(output, num_rows=examples.shape[0], like=None)
    rules.check_vocabulary(output.logits.shape[1])
    rules.check_attention(output.attention)
    live, ended = _start(output, config=config)
    length_penalties = length_penalties_of(config, num_steps=rules.num_steps, like=live.totals)
    num_ended = torch.zeros_like(examples)
    trace: list[_Step] = []
    done: list[tuple[Tensor, _Ended]] = []
    for step in range(rules.num_steps):
        width = live.totals.shape[1]
        next_width = 1 if rules.all_forced(step) else config.beam_size
        attention = (
            None if output.attention is None else output.attention.reshape(-1, width, output.attention.shape[-1])
        )
        if live.coverage is not None and attention is not None:
            live = live._replace(coverage=live.coverage + attention.to(live.coverage.dtype))
        values, broken = rules.log_probabilities(output.logits, step=step, history=live.history)
        following = _best_continuations(values, live.totals, num=2 * next_width)

        is_eos = following.tokens == rules.special.eos
        at_limit = rules.longest == step + 1
        newly = (is_eos | at_limit.unsqueeze(-1))[:, :next_width] & (following.totals[:, :next_width] > -torch.inf)
        ended = _add_ended(
            ended,
            following,
            newly=newly,
            length=step + 1,
            length_penalty=length_penalties[step + 1],
            coverage=coverage_penalty_of(live.coverage, source_lengths=source_lengths[examples], config=config),
        )
        num_ended = num_ended + newly.sum(-1)

        going_on = is_eos.long().sort(dim=-1, stable=True).indices[:, :next_width]
        totals, parents, tokens = (part.gather(1, going_on) for part in following)
        trace.append(_Step(examples, parents, tokens, attention))
        soonest = length_penalties[min(max(step + 2, config.min_length), rules.num_steps)]
        out_of_reach = _attainable(totals[:, 0], soonest, length_penalties[rules.longest]) <= ended.scores[:, -1]
        stops = at_limit | out_of_reach | (num_ended >= config.patience * config.beam_size)
        any_broken = (broken.reshape(-1, width) & (live.totals > -torch.inf)).any(-1)
        # The one place in a step where the host waits for the device.
        stop_flags, broken_flags = torch.stack([stops, any_broken]).tolist()
        raise_broken(broken_flags, examples=examples, step=step)

        kept = [place for place, stop in enumerate(stop_flags) if not stop]
        whole = len(kept) == len(stop_flags)
        if not whole:
            stopped = torch.tensor([place for place, stop in enumerate(stop_flags) if stop], device=device)
            done.append((examples[stopped], ended.at(stopped)))
        if not kept:
            break
        index = torch.tensor(kept, device=device)
        first_rows = width * torch.arange(len(stop_flags), device=device).unsqueeze(-1)
        rows = (first_rows + parents)[index].flatten()
        next_tokens = tokens[index].flatten()
        live = live.following(rows, totals=totals[index], tokens=next_tokens)
        state = output.state
        # With one hypothesis an example there is nothing to reorder.
        if width > 1 or next_width > 1 or not whole:
            state = state.select(rows, examples=None if whole else index)
        if not whole:
            rules.keep(kept)
            examples, ended, num_ended = examples[index], ended.at(index), num_ended[index]
        output = decoder.step(next_tokens, state)
        check_output(output, num_rows=next_tokens.shape[0], like=trace[0].attention)
    order = torch.cat([places for places, _ in done]).argsort()
    best = _Ended(*(torch.cat(parts)[order] for parts in zip(*(found for _, found in done), strict=True)))
    raise_stuck((best.lengths[:, 0] == 0).tolist(), examples=torch.arange(len(order)))
    return _read_back(best, trace, rules=rules)


def _start(output: StepOutput[State], *, config: BeamConfig) -> tuple[_Live, _Ended]:
    """One live hypothesis an example, still empty, and none ended."""
    logits = output.logits
    num_examples = logits.shape[0]
    covered = config.coverage_penalty > 0
    check_coverage(config, attention=output.attention)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    repeats = config.no_repeat_ngram is not None
    live = _Live(
        totals=logits.new_zeros(num_examples, 1, dtype=dtype),
        coverage=logits.new_zeros(num_examples, 1, 1, dtype=dtype) if covered else None,
        history=logits.new_zeros(num_examples, 0, dtype=torch.int64) if repeats else None,
    )
    nothing = logits.new_full((num_examples, config.num_best), -torch.inf, dtype=dtype)
    zeros = torch.zeros_like(nothing, dtype=torch.int64)
    return live, _Ended(scores=nothing, totals=nothing, lengths=zeros, parents=zeros, tokens=zeros)


def _attainable(totals: Tensor, shortest: Tensor, longest: Tensor) -> Tensor:
    """A score that no continuation of these hypotheses exceeds.

    A log-probability can only fall, and a coverage penalty is at most 0; so the best is to end at once or at the
    longest length, whichever length divides by more.
    """
    return totals / torch.maximum(shortest, longest)


def _best_continuations(values: Tensor, totals: Tensor, *, num: int) -> _Continuations:
    """The best of all live hypotheses together; of equal ones first the better parent's, then the likelier token's."""
    num_examples, width = totals.shape
    per_parent = min(num, values.shape[1])
    gains, tokens = largest(values, per_parent)
    candidates = (totals.unsqueeze(-1) + gains.reshape(num_examples, width, per_parent)).flatten(1)
    tokens = tokens.reshape(num_examples, -1)
    if candidates.shape[1] < num:
        missing = num - candidates.shape[1]
        candidates, tokens = F.pad(candidates, (0, missing), value=-torch.inf), F.pad(tokens, (0, missing))
    ordered = candidates.sort(dim=-1, descending=True, stable=True)
    chosen = ordered.indices[:, :num]
    parents = (chosen // per_parent).clamp(max=width - 1)
    return _Continuations(ordered.values[:, :num], parents, tokens.gather(1, chosen))


def _add_ended(
    ended: _Ended,
    following: _Continuations,
    *,
    newly: Tensor,
    length: int,
    length_penalty: Tensor,
    coverage: Tensor | None,
) -> _Ended:
    """The best of what had ended and what ends now; of equal scores what ended first."""
    num = newly.shape[1]
    totals, parents, tokens = (part[:, :num] for part in following)
    scores = totals / length_penalty
    if coverage is not None:
        scores = scores + coverage.gather(1, parents)
    scores = scores.masked_fill(~newly, -torch.inf)
    lengths = torch.full_like(parents, length).masked_fill(~newly, 0)
    both = _Ended(
        *(
            torch.cat(parts, dim=1)
            for parts in zip(ended, _Ended(scores, totals, lengths, parents, tokens), strict=True)
        )
    )
    best = both.scores.sort(dim=-1, descending=True, stable=True).indices[:, : ended.scores.shape[1]]
    return _Ended(*(part.gather(1, best) for part in both))


def _read_back(best: _Ended, trace: list[_Step], *, rules: TokenRules) -> Hypotheses:
    """Follow every hypothesis from its last token to its first."""
    num_examples, num_best = best.scores.shape
    num_steps = int(best.lengths.max())
    device = best.scores.device
    tokens = torch.full((num_examples, num_best, num_steps), rules.special.pad, dtype=torch.int64, device=device)
    given = trace[0].attention
    attention = None if given is None else given.new_zeros(num_examples, num_best, num_steps, given.shape[-1])
    places = torch.zeros_like(best.parents)
    for index in range(num_steps - 1, -1, -1):
        step = trace[index]
        # An example that had stopped by then has no row: none of its hypotheses is as long.
        row = torch.zeros(num_examples, dtype=torch.int64, device=device)
        row[step.examples] = torch.arange(step.examples.shape[0], device=device)
        row = row.unsqueeze(-1)
        is_last = best.lengths == index + 1
        behind = best.lengths <= index
        tokens[:, :, index] = torch.where(is_last, best.tokens, step.tokens[row, places]).masked_fill(
            behind, rules.special.pad
        )
        places = torch.where(is_last, best.parents, step.parents[row, places])
        if attention is not None and step.attention is not None:
            attention[:, :, index] = step.attention[row, places].masked_fill(behind.unsqueeze(-1), 0)
    return Hypotheses(
        tokens=tokens,
        lengths=best.lengths,
        finished=(best.lengths > 0) & (best.tokens == rules.special.eos),
        scores=best.scores,
        log_probabilities=best.totals.masked_fill(best.lengths == 0, -torch.inf),
        attention=attention,
    )

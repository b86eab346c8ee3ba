"""Which tokens may come next in a search, and with what log-probability."""

import operator
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from core.nn.searching.search_options import SearchLimits, SpecialTokens


class TokenRules:
    """Special tokens, forced prefixes, shortest and longest lengths and repeats, for the examples still searched."""

    def __init__(
        self,
        limits: SearchLimits,
        *,
        special: SpecialTokens,
        source_lengths: Int[Tensor, "examples"],
        prefixes: Sequence[Sequence[int]] | None,
    ) -> None:
        num_examples = source_lengths.shape[0]
        self.limits = limits
        self.special = special
        self.source_lengths: list[int] = source_lengths.tolist()
        for example, length in enumerate(self.source_lengths):
            if length < 0:
                raise ValueError(f"source_lengths must be at least 0, got source_lengths[{example}] = {length}.")
        self.prefixes: list[list[int]] = [[] for _ in range(num_examples)]
        if prefixes is not None:
            self.prefixes = [_as_ids(prefix, example=example) for example, prefix in enumerate(prefixes)]
        longest = limits.longest(self.source_lengths)
        self._check_prefixes(longest)
        device = source_lengths.device
        self.prefix_lengths = [len(prefix) for prefix in self.prefixes]
        width = max(self.prefix_lengths)
        padded = [prefix + [special.pad] * (width - len(prefix)) for prefix in self.prefixes]
        self.prefix_tokens = torch.tensor(padded, dtype=torch.int64, device=device).reshape(num_examples, width)
        self.never = torch.tensor(special.never_generated, dtype=torch.int64, device=device)
        self.num_steps = max(longest)
        """Steps after which every hypothesis has ended."""
        self.longest = torch.tensor(longest, device=device)
        """(examples,) most tokens of a hypothesis, of the examples still searched."""

    def keep(self, kept: list[int]) -> None:
        """Go on with the examples at these places of the present ones."""
        self.prefix_lengths = [self.prefix_lengths[place] for place in kept]
        index = torch.tensor(kept, device=self.longest.device)
        self.prefix_tokens, self.longest = self.prefix_tokens[index], self.longest[index]

    def all_forced(self, step: int) -> bool:
        """Whether no example has a choice at this step: its hypotheses would all be the same."""
        return step < min(self.prefix_lengths)

    def log_probabilities(
        self, logits: Float[Tensor, "rows vocabulary"], *, step: int, history: Int[Tensor, "rows step"] | None
    ) -> tuple[Float[Tensor, "rows vocabulary"], Bool[Tensor, "rows"]]:
        """Log-probability of each token, minus infinity for one that may not come; and where the decoder gave NaN.

        What is ruled out is not shared among the rest: a log-probability stays what the decoder gave. Half precisions
        become float32, float64 stays. `history` holds the tokens so far where repeats are ruled out.
        """
        # A tensor of our own: what follows writes into it.
        values = torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        broken = values[:, 0].isnan()
        forced = self._forced_values(values, step=step)
        values.index_fill_(1, self.never, -torch.inf)
        if step + 1 < self.limits.min_length:
            values[:, self.special.eos] = -torch.inf
        if self.limits.no_repeat_ngram is not None and history is not None:
            _rule_out_repeats_(values, history, num_tokens=self.limits.no_repeat_ngram)
        if forced is not None:
            is_forced, tokens, chances = forced
            values.masked_fill_(is_forced, -torch.inf)
            values.scatter_(1, tokens, torch.where(is_forced, chances, values.gather(1, tokens)))
        return values, broken

    def check_attention(self, attention: Float[Tensor, "rows source"] | None) -> None:
        """Refuse sources that are longer than what the decoder attends over.

        Raises:
            ValueError: naming the example.
        """
        if attention is None:
            return
        for example, length in enumerate(self.source_lengths):
            if length > attention.shape[1]:
                raise ValueError(
                    f"source_lengths[{example}] is {length}, but the decoder attends over {attention.shape[1]} source "
                    "steps: give the lengths that its state was made with."
                )

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Refuse ids that the decoder has no logit for.

        Raises:
            ValueError: naming the id.
        """
        special = self.special
        named = [("bos", special.bos), ("eos", special.eos), ("pad", special.pad)]
        for name, token in [*named, *(("forbidden", token) for token in special.forbidden)]:
            if token >= vocabulary_size:
                raise ValueError(
                    f"{name} is {token}, but the decoder scores {vocabulary_size} tokens, 0 to {vocabulary_size - 1}."
                )
        for example, prefix in enumerate(self.prefixes):
            for place, token in enumerate(prefix):
                if token >= vocabulary_size:
                    raise ValueError(
                        f"prefixes[{example}][{place}] is {token}, but the decoder scores {vocabulary_size} tokens, "
                        f"0 to {vocabulary_size - 1}."
                    )
        if len({*special.never_generated, special.eos}) == vocabulary_size:
            raise ValueError(
                f"bos, pad, forbidden and the end of sequence are the whole vocabulary of {vocabulary_size} tokens: "
                "there is nothing left to generate. Forbid less."
            )

    def _check_prefixes(self, longest: list[int]) -> None:
        if len(self.prefixes) != len(longest):
            raise ValueError(
                f"prefixes must have one entry per example, {len(longest)}, got {len(self.prefixes)}. "
                "Give an example without a prefix an empty one."
            )
        for example, (prefix, limit) in enumerate(zip(self.prefixes, longest, strict=True)):
            if len(prefix) > limit:
                raise ValueError(
                    f"prefixes[{example}] has {len(prefix)} tokens, more than the {limit} that the hypotheses of this "
                    "example may have (max_length and, where it is set, max_length_ratio x source length + "
                    "max_length_offset). Shorten it or allow more."
                )
            for place, token in enumerate(prefix):
                if token < 0 or token in (self.special.eos, self.special.pad):
                    raise ValueError(
                        f"prefixes[{example}][{place}] is {token}: a prefix holds ids of at least 0 and neither the end "
                        f"of sequence ({self.special.eos}) nor padding ({self.special.pad})."
                    )

    def _forced_values(self, values: Tensor, *, step: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """For each row whether its token is forced, that token (padding otherwise) and its log-probability."""
        if step >= max(self.prefix_lengths):
            return None
        rows_per_example = values.shape[0] // len(self.prefix_lengths)
        is_forced = torch.tensor([step < length for length in self.prefix_lengths], device=values.device)
        tokens = self.prefix_tokens[:, step].repeat_interleave(rows_per_example).unsqueeze(-1)
        return is_forced.repeat_interleave(rows_per_example).unsqueeze(-1), tokens, values.gather(1, tokens)


def _as_ids(prefix: Sequence[int], *, example: int) -> list[int]:
    try:
        # Not int(), which would cut 4.5 to 4.
        return [operator.index(token) for token in prefix]
    except TypeError:
        raise ValueError(f"prefixes[{example}] must be a sequence of token ids (int), got {prefix}.") from None


def _rule_out_repeats_(values: Tensor, history: Tensor, *, num_tokens: int) -> None:
    """Minus infinity for a token that would end a run of `num_tokens` that stands in the history already."""
    num_steps = history.shape[1]
    if num_steps < num_tokens:
        return
    runs = history.unfold(1, num_tokens, 1)
    recent = history[:, num_steps - num_tokens + 1 :].unsqueeze(1)
    # Of one token a run has no beginning, and every one matches.
    again = (runs[..., :-1] == recent).all(-1)
    penalty = torch.zeros(again.shape, dtype=values.dtype, device=values.device).masked_fill_(again, -torch.inf)
    values.scatter_add_(1, runs[..., -1], penalty)

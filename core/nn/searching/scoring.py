"""What given hypotheses are worth to a step decoder, and where it looks while it reads them: nothing is searched."""

from collections.abc import Sequence

import torch
from torch import Tensor

from core.nn.lengths import valid_steps
from core.nn.searching.hypotheses import Hypotheses
from core.nn.searching.penalties import check_coverage, coverage_penalty_of, length_penalties_of
from core.nn.searching.search_options import BeamConfig, SpecialTokens
from core.nn.searching.step_outputs import check_output, raise_broken
from core.nn.step_decoder import State, StepDecoder


def score_given(
    decoder: StepDecoder[State],
    *,
    state: State,
    given: Sequence[Sequence[int]],
    config: BeamConfig,
    special: SpecialTokens,
    source_lengths: Tensor,
) -> Hypotheses:
    """See `core.nn.search.score`."""
    num_examples, device = source_lengths.shape[0], source_lengths.device
    if len(given) != num_examples:
        raise ValueError(f"given must have one hypothesis per example, {num_examples}, got {len(given)}.")
    lengths = torch.tensor([len(tokens) + 1 for tokens in given], device=device)
    num_steps = int(lengths.max())
    ended = [[*tokens, special.eos] for tokens in given]
    padded = [tokens + [special.pad] * (num_steps - len(tokens)) for tokens in ended]
    labels = torch.tensor(padded, dtype=torch.int64, device=device)
    valid = valid_steps(lengths, num_steps)
    examples = torch.arange(num_examples, device=device)
    inputs = torch.full_like(examples, special.bos)
    chances: list[Tensor] = []
    attention: list[Tensor] = []
    for step in range(num_steps):
        output = decoder.step(inputs, state)
        check_output(output, num_rows=num_examples, like=attention[0] if attention else None)
        if step == 0:
            check_coverage(config, attention=output.attention)
            _check_vocabulary(given, vocabulary_size=output.logits.shape[1])
        logits = output.logits
        values = torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        raise_broken((values[:, 0].isnan() & valid[:, step]).tolist(), examples=examples, step=step)
        chances.append(values.gather(1, labels[:, step : step + 1]).squeeze(1).masked_fill(~valid[:, step], 0))
        if output.attention is not None:
            attention.append(output.attention.masked_fill(~valid[:, step : step + 1], 0))
        state, inputs = output.state, labels[:, step]
    totals = torch.stack(chances, dim=1).sum(1, keepdim=True)
    looked = torch.stack(attention, dim=1).unsqueeze(1) if attention else None
    scores = totals / length_penalties_of(config, num_steps=num_steps, like=totals)[lengths].unsqueeze(1)
    if config.coverage_penalty > 0 and looked is not None:
        coverage = coverage_penalty_of(looked.sum(2).to(scores.dtype), source_lengths=source_lengths, config=config)
        assert coverage is not None
        scores = scores + coverage
    return Hypotheses(
        tokens=labels.unsqueeze(1),
        lengths=lengths.unsqueeze(1),
        finished=torch.ones_like(lengths, dtype=torch.bool).unsqueeze(1),
        scores=scores,
        log_probabilities=totals,
        attention=looked,
    )


def _check_vocabulary(given: Sequence[Sequence[int]], *, vocabulary_size: int) -> None:
    for example, tokens in enumerate(given):
        for place, token in enumerate(tokens):
            if not 0 <= token < vocabulary_size:
                raise ValueError(
                    f"given[{example}][{place}] is {token}, but the decoder scores {vocabulary_size} tokens, 0 to "
                    f"{vocabulary_size - 1}."
                )

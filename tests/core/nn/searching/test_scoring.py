"""Given hypotheses are worth what the search that finds them says."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.nn.search import BeamConfig, score, search
from tests.core.nn.test_search_use import SIZE, SPECIAL, VOCABULARY, FixedDecoder, FixedState, GruDecoder


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    alpha=st.sampled_from([0.0, 0.7]),
    beta=st.sampled_from([0.0, 0.3]),
    rank=st.integers(0, 2),
    seed=st.integers(0, 2**31),
)
def test_what_a_search_has_found_is_worth_what_it_said(
    lengths: list[int], alpha: float, beta: float, rank: int, seed: int
) -> None:
    torch.manual_seed(seed)
    decoder = GruDecoder().double()
    source_lengths = torch.tensor(lengths)
    memory = torch.randn(len(lengths), max(lengths), SIZE, dtype=torch.float64)
    config = BeamConfig(beam_size=3, num_best=3, max_length=40, length_penalty=alpha, coverage_penalty=beta)
    with torch.no_grad():
        state = decoder.start(memory, source_lengths)
    found = search(decoder, state=state, config=config, special=SPECIAL, source_lengths=source_lengths)
    # One that was cut at the longest length has no end to score.
    rows = [row for row in range(len(lengths)) if bool(found.finished[row, rank])]
    if not rows:
        return
    tokens = found.token_lists()
    with torch.no_grad():
        state = decoder.start(memory[rows], source_lengths[rows])
    scored = score(
        decoder,
        state=state,
        given=[tokens[row][rank] for row in rows],
        config=config,
        special=SPECIAL,
        source_lengths=source_lengths[rows],
    )
    assert [one[0] for one in scored.token_lists()] == [tokens[row][rank] for row in rows]
    assert scored.finished.all()
    for name in ("lengths", "scores", "log_probabilities"):
        expected = getattr(found, name)[rows, rank].unsqueeze(1)
        torch.testing.assert_close(getattr(scored, name), expected, rtol=1e-10, atol=1e-10)
    num_steps = scored.tokens.shape[-1]
    torch.testing.assert_close(scored.attention[:, 0], found.attention[rows, rank, :num_steps], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"given": [[4]]}, "given must have one hypothesis per example, 2, got 1"),
        ({"given": [[], [4, VOCABULARY]]}, r"given\[1\]\[1\] is 50, but the decoder scores 50 tokens, 0 to 49"),
        ({"given": [[-1], []]}, r"given\[0\]\[0\] is -1"),
        (
            {"config": BeamConfig(beam_size=1, max_length=4, coverage_penalty=0.1)},
            "coverage_penalty=0.1 needs attention, and this decoder gives none",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"given": [[4], [5, 6]], "config": BeamConfig(beam_size=1, max_length=4)}
    with pytest.raises(ValueError, match=message):
        score(
            FixedDecoder(torch.zeros(2, VOCABULARY)),
            state=FixedState(2),
            special=SPECIAL,
            source_lengths=torch.tensor([3, 2]),
            **{**arguments, **changed},
        )


def test_a_broken_decoder_is_told() -> None:
    logits = torch.zeros(2, VOCABULARY)
    logits[1] = torch.nan
    with pytest.raises(ValueError, match=r"after 0 tokens, for the examples 1 of the batch"):
        score(
            FixedDecoder(logits),
            state=FixedState(2),
            given=[[4], [5]],
            config=BeamConfig(beam_size=1, max_length=4),
            special=SPECIAL,
            source_lengths=torch.tensor([3, 2]),
        )

"""Search with a real decoder, and what it refuses."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.nn.lengths import valid_steps
from core.nn.search import BeamConfig, GreedyConfig, Hypotheses, SamplingConfig, SearchConfig, SpecialTokens, search
from core.nn.step_decoder import StepOutput

SPECIAL = SpecialTokens(bos=1, eos=2, pad=0, forbidden=(3,))
SIZE, VOCABULARY = 6, 50


class GruState(NamedTuple):
    hidden: Tensor
    memory: Tensor
    """(examples, source, features): once an example, whatever the number of hypotheses."""
    outside: Tensor

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "GruState":
        memory, outside = self.memory, self.outside
        if examples is not None:
            memory, outside = memory[examples], outside[examples]
        return GruState(self.hidden[rows], memory, outside)


class GruDecoder(nn.Module):
    """A gated recurrent unit that attends over the source by dot products."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, SIZE)
        self.cell = nn.GRUCell(SIZE, SIZE)
        self.readout = nn.Linear(2 * SIZE, VOCABULARY)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=1.0)

    def start(self, memory: Tensor, lengths: Tensor) -> GruState:
        outside = ~valid_steps(lengths, memory.shape[1])
        memory = memory.masked_fill(outside.unsqueeze(-1), 0)
        return GruState(memory.sum(1) / lengths.unsqueeze(-1), memory, outside.unsqueeze(1))

    def step(self, tokens: Tensor, state: GruState) -> StepOutput[GruState]:
        hidden = self.cell(self.embedding(tokens), state.hidden)
        queries = hidden.reshape(state.memory.shape[0], -1, SIZE)
        attention = (queries @ state.memory.mT).masked_fill(state.outside, -torch.inf).softmax(-1)
        context = (attention @ state.memory).flatten(0, 1)
        logits = self.readout(torch.cat([hidden, context], dim=-1))
        return StepOutput(logits, state._replace(hidden=hidden), attention.flatten(0, 1))


CONFIGS: list[SearchConfig] = [
    GreedyConfig(max_length=12, max_length_ratio=2.0, max_length_offset=3),
    BeamConfig(beam_size=4, num_best=3, max_length=12, length_penalty=0.6, coverage_penalty=0.2, no_repeat_ngram=2),
    BeamConfig(beam_size=2, max_length=9, min_length=3, length_penalty=1.0, patience=2.0, max_length_ratio=1.5),
    SamplingConfig(seed=3, num_samples=3, max_length=9, temperature=1.3),
    SamplingConfig(seed=3, num_samples=2, max_length=9, top_k=20, top_p=0.9),
]


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    extra=st.integers(0, 4),
    config=st.sampled_from(CONFIGS),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_batch_order_and_padding_change_nothing(
    lengths: list[int], extra: int, config: SearchConfig, seed: int, data: st.DataObject
) -> None:
    """Contract 2: the same tokens; scores to 1e-10, which is what products of another batch size differ by."""
    torch.manual_seed(seed)
    decoder = GruDecoder().double()
    memory = torch.randn(len(lengths), max(lengths), SIZE, dtype=torch.float64)
    some = data.draw(st.permutations(range(len(lengths))))[: data.draw(st.integers(1, len(lengths)))]

    def run(rows: list[int], padding: int) -> Hypotheses:
        chosen = torch.tensor(rows)
        wanted = torch.tensor([lengths[row] for row in rows])
        padded = nn.functional.pad(memory[chosen], (0, 0, 0, padding), value=torch.nan)
        with torch.no_grad():
            state = decoder.start(padded, wanted)
        return search(decoder, state=state, config=config, special=SPECIAL, source_lengths=wanted, keys=10 + chosen)

    whole, part = run(list(range(len(lengths))), 0), run(some, extra)
    assert part.token_lists() == [whole.token_lists()[row] for row in some]
    num_steps = part.tokens.shape[-1]
    expected = Hypotheses(*(None if field is None else field[torch.tensor(some)] for field in whole))
    assert torch.equal(part.lengths, expected.lengths)
    assert torch.equal(part.finished, expected.finished)
    torch.testing.assert_close(part.scores, expected.scores, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(part.log_probabilities, expected.log_probabilities, rtol=1e-10, atol=1e-10)
    weights = part.attention[..., : max(lengths)]
    torch.testing.assert_close(weights, expected.attention[:, :, :num_steps], rtol=1e-10, atol=1e-10)
    assert not part.attention[..., max(lengths) :].any()
    generated = {token for example in part.token_lists() for tokens in example for token in tokens}
    assert generated.isdisjoint({SPECIAL.bos, SPECIAL.eos, SPECIAL.pad, *SPECIAL.forbidden})


class FixedState(NamedTuple):
    num_rows: int

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "FixedState":
        return FixedState(len(rows))


class FixedDecoder:
    """Gives what it is told to, at every step."""

    def __init__(self, logits: Tensor, *, attention: Tensor | None = None, later: Tensor | None = None) -> None:
        self.logits, self.attention, self.later = logits, attention, later
        self.num_steps = 0

    def step(self, tokens: Tensor, state: FixedState) -> StepOutput[FixedState]:
        self.num_steps += 1
        logits = self.logits if self.num_steps == 1 or self.later is None else self.later
        return StepOutput(logits, state, self.attention)


def run_fixed(decoder: FixedDecoder, **changed: Any) -> Hypotheses:
    arguments = {"config": GreedyConfig(max_length=4), "special": SPECIAL, "source_lengths": torch.tensor([3, 2])}
    return search(decoder, state=FixedState(2), **{**arguments, **changed})


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"source_lengths": torch.tensor([3.0, 2.0])},
            r"source_lengths must be int64 .* got torch.float32 of shape \(2,\)",
        ),
        ({"source_lengths": torch.tensor([[3, 2]])}, r"got torch.int64 of shape \(1, 2\)"),
        ({"source_lengths": torch.empty(0, dtype=torch.int64)}, r"\(examples >= 1,\), got torch.int64 of shape \(0,\)"),
        ({"source_lengths": torch.tensor([3, -1])}, r"source_lengths must be at least 0, got source_lengths\[1\] = -1"),
        ({"prefixes": [[4], [4.0]]}, r"prefixes\[1\] must be a sequence of token ids \(int\), got \[4.0\]"),
        ({"prefixes": [4, 5]}, r"prefixes\[0\] must be a sequence of token ids \(int\), got 4"),
        ({"prefixes": [[4]]}, "prefixes must have one entry per example, 2, got 1"),
        ({"prefixes": [[], [4, 5, 4, 5, 4]]}, r"prefixes\[1\] has 5 tokens, more than the 4 "),
        (
            {
                "prefixes": [[4, 5, 4], [4, 5, 4]],
                "config": GreedyConfig(max_length=4, max_length_ratio=1.0),
            },
            r"prefixes\[1\] has 3 tokens, more than the 2 .* max_length_ratio x source length",
        ),
        ({"prefixes": [[], [4, 9]]}, r"prefixes\[1\]\[1\] is 9, but the decoder scores 6 tokens, 0 to 5"),
        ({"prefixes": [[-1], []]}, r"prefixes\[0\]\[0\] is -1"),
        (
            {"prefixes": [[], [4, 2]]},
            r"prefixes\[1\]\[1\] is 2: .* neither the end of sequence \(2\) nor padding \(0\)",
        ),
        ({"prefixes": [[0], []]}, r"prefixes\[0\]\[0\] is 0: .* nor padding"),
        ({"special": SpecialTokens(bos=1, eos=6, pad=0)}, "eos is 6, but the decoder scores 6 tokens, 0 to 5"),
        ({"special": SpecialTokens(bos=1, eos=2, pad=0, forbidden=(7,))}, "forbidden is 7, but the decoder scores 6"),
        (
            {"special": SpecialTokens(bos=1, eos=2, pad=0, forbidden=(3, 4, 5))},
            "the whole vocabulary of 6 tokens: there is nothing left to generate",
        ),
        (
            {"config": BeamConfig(beam_size=2, max_length=4, coverage_penalty=0.1)},
            "coverage_penalty=0.1 needs attention, and this decoder gives none",
        ),
        ({"config": SamplingConfig(seed=0, max_length=4)}, "sampling needs keys"),
        (
            {"config": SamplingConfig(seed=0, max_length=4), "keys": torch.tensor([0.0, 1.0])},
            r"keys must be int64 of shape \(2,\), one per example, got torch.float32",
        ),
        (
            {"config": SamplingConfig(seed=0, max_length=4), "keys": torch.tensor([1])},
            r"got torch.int64 of shape \(1,\)",
        ),
        (
            {"config": SamplingConfig(seed=0, max_length=4), "keys": torch.tensor([1, 2**32])},
            r"between 0 and 2 \*\* 32 - 1, got keys\[1\] = 4294967296",
        ),
        (
            {"config": SamplingConfig(seed=0, max_length=4, top_k=6), "keys": torch.tensor([1, 2])},
            "top_k=6 cuts nothing from a vocabulary of 6 tokens",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_fixed(FixedDecoder(torch.zeros(2, 6)), **changed)


SEARCHES: list[SearchConfig] = [
    GreedyConfig(max_length=4, min_length=4),
    BeamConfig(beam_size=1, max_length=4, min_length=4),
    SamplingConfig(seed=0, max_length=4, min_length=4),
]


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("config", SEARCHES, ids=lambda config: type(config).__name__)
def test_what_a_decoder_gives_is_checked(config: SearchConfig) -> None:
    keys = torch.tensor([0, 1])
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = torch.zeros(2, 6)
        broken[1, 5 if value != -torch.inf else slice(None)] = value
        with pytest.raises(ValueError, match=r"or are all -inf, after 0 tokens, for the examples 1 of the batch"):
            run_fixed(FixedDecoder(broken), config=config, keys=keys)
        with pytest.raises(ValueError, match=r"after 1 tokens, for the examples 1 of the batch"):
            run_fixed(FixedDecoder(torch.zeros(2, 6), later=broken), config=config, keys=keys)
    with pytest.raises(ValueError, match=r"logits of shape \(rows, vocabulary\) for 2 rows, got \(3, 6\)"):
        run_fixed(FixedDecoder(torch.zeros(3, 6)), config=config, keys=keys)
    with pytest.raises(ValueError, match=r"attention of shape \(rows, source\) for 2 rows, got \(2, 1, 3\)"):
        run_fixed(FixedDecoder(torch.zeros(2, 6), attention=torch.zeros(2, 1, 3)), config=config, keys=keys)

    narrow = FixedDecoder(torch.zeros(2, 6), attention=torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"source_lengths\[0\] is 3, but the decoder attends over 2 source steps"):
        run_fixed(narrow, config=config, keys=keys)

    class Shrinking(FixedDecoder):
        def step(self, tokens: Tensor, state: FixedState) -> StepOutput[FixedState]:
            attention = torch.ones(2, 3 - self.num_steps)
            return StepOutput(super().step(tokens, state).logits, state, attention)

    with pytest.raises(ValueError, match="attend over the same 3 source steps throughout, got 2"):
        run_fixed(Shrinking(torch.zeros(2, 6)), config=config, keys=keys)


def test_attention_that_is_zero_keeps_the_coverage_penalty_finite() -> None:
    """A source step that local attention never reaches would be the logarithm of 0."""
    attention = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    decoder = FixedDecoder(torch.zeros(2, 6), attention=attention)
    config = BeamConfig(beam_size=1, max_length=3, min_length=3, coverage_penalty=1.0)
    found = run_fixed(decoder, config=config)
    covered = found.scores - found.log_probabilities
    floor = torch.tensor(1e-6).log()
    # Two of three source steps were never reached, and one of two: the third is padding.
    torch.testing.assert_close(covered.flatten(), torch.stack([2 * floor, floor]))


def test_search_keeps_no_graph_and_leaves_gradients_on() -> None:
    decoder = GruDecoder()
    state = decoder.start(torch.randn(2, 3, SIZE), torch.tensor([3, 2]))
    for config in SEARCHES:
        found = search(
            decoder,
            state=state,
            config=config,
            special=SPECIAL,
            source_lengths=torch.tensor([3, 2]),
            keys=torch.tensor([0, 1]),
        )
        assert not found.scores.requires_grad
    assert torch.is_grad_enabled()
    assert decoder.step(torch.tensor([1, 1]), state).logits.requires_grad

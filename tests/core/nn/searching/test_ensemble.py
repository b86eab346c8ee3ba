"""Several decoders as one."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from core.nn.search import BeamConfig, GreedyConfig, SamplingConfig, SpecialTokens, search
from core.nn.searching.ensemble import Ensemble, EnsembleState
from core.nn.step_decoder import StepOutput

SPECIAL = SpecialTokens(bos=1, eos=2, pad=0)


class HistoryState(NamedTuple):
    """Which example, and a sum over all tokens read, which differs from member to member by its factor."""

    examples: Tensor
    sums: Tensor

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "HistoryState":
        return HistoryState(self.examples[rows], self.sums[rows])


class HistoryDecoder:
    def __init__(
        self, seed: int, *, factor: int, vocabulary_size: int = 5, source_size: int = 3, with_attention: bool = True
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.factor = factor
        self.logits = 2 * torch.randn(3, 11, vocabulary_size, generator=generator, dtype=torch.float64)
        self.weights = torch.rand(3, 11, source_size, generator=generator, dtype=torch.float64)
        self.with_attention = with_attention

    def start(self) -> HistoryState:
        return HistoryState(torch.arange(3), torch.zeros(3, dtype=torch.int64))

    def step(self, tokens: Tensor, state: HistoryState) -> StepOutput[HistoryState]:
        sums = (state.sums * self.factor + tokens) % 11
        attention = self.weights[state.examples, sums] if self.with_attention else None
        return StepOutput(self.logits[state.examples, sums], HistoryState(state.examples, sums), attention)


MEMBERS = [HistoryDecoder(seed, factor=factor) for seed, factor in ((0, 2), (1, 3), (2, 5))]
CONFIGS = [
    GreedyConfig(max_length=5),
    BeamConfig(beam_size=4, num_best=4, max_length=5, length_penalty=0.7, coverage_penalty=0.2),
    SamplingConfig(seed=1, num_samples=3, max_length=5, top_p=0.9),
]


def run(members: list[HistoryDecoder], config: object) -> object:
    ensemble = Ensemble(members)
    return search(
        ensemble,
        state=ensemble.join([member.start() for member in members]),
        config=config,
        special=SPECIAL,
        source_lengths=torch.tensor([3, 2, 3]),
        keys=torch.arange(3),
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_identical_members_are_one(config: object) -> None:
    several, one = run([MEMBERS[0]] * 3, config), run(MEMBERS[:1], config)
    alone = search(
        MEMBERS[0],
        state=MEMBERS[0].start(),
        config=config,
        special=SPECIAL,
        source_lengths=torch.tensor([3, 2, 3]),
        keys=torch.arange(3),
    )
    for other in (several, one):
        assert torch.equal(other.tokens, alone.tokens)
        assert torch.equal(other.lengths, alone.lengths)
        for name in ("scores", "log_probabilities", "attention"):
            torch.testing.assert_close(getattr(other, name), getattr(alone, name), rtol=1e-12, atol=1e-12)


def test_the_best_by_the_mean_probability_is_found() -> None:
    """Against every sequence: two words, the end, and at most four tokens."""
    found = run(MEMBERS, BeamConfig(beam_size=40, num_best=5, max_length=4))
    for example in range(3):
        totals = {}
        for length in range(1, 5):
            for words in itertools.product((3, 4), repeat=length - 1):
                for last in (2, 3, 4) if length == 4 else (2,):
                    totals[(*words, last)] = sum(mean_log_probabilities(example, (*words, last)))
        best = sorted(totals, key=totals.__getitem__, reverse=True)[:5]
        for place, tokens in enumerate(best):
            assert tuple(found.tokens[example, place, : len(tokens)].tolist()) == tokens
            assert float(found.scores[example, place]) == pytest.approx(totals[tokens], abs=1e-12)


def mean_log_probabilities(example: int, tokens: tuple[int, ...]) -> list[float]:
    sums = [0] * len(MEMBERS)
    values = []
    for last, token in itertools.pairwise((SPECIAL.bos, *tokens)):
        sums = [(total * member.factor + last) % 11 for total, member in zip(sums, MEMBERS, strict=True)]
        chances = [
            float(member.logits[example, total].softmax(-1)[token]) for total, member in zip(sums, MEMBERS, strict=True)
        ]
        values.append(math.log(sum(chances) / len(chances)))
    return values


def test_attention_is_the_mean_where_all_have_one() -> None:
    tokens = torch.tensor([1, 1, 1])
    states = [member.start() for member in MEMBERS]
    ensemble = Ensemble(MEMBERS)
    output = ensemble.step(tokens, ensemble.join(states))
    each = [member.step(tokens, state).attention for member, state in zip(MEMBERS, states, strict=True)]
    torch.testing.assert_close(output.attention, sum(each) / 3)
    torch.testing.assert_close(output.logits.exp().sum(-1), torch.ones(3, dtype=torch.float64))
    mixed = Ensemble([MEMBERS[0], HistoryDecoder(1, factor=3, with_attention=False)])
    assert mixed.step(tokens, mixed.join(states[:2])).attention is None


def test_a_tiny_probability_is_not_lost_in_the_mean() -> None:
    """The mean of probabilities below float32's smallest number is still a number as a logarithm."""
    members = [HistoryDecoder(seed, factor=1) for seed in (0, 1)]
    for member in members:
        member.logits = member.logits.float()
        member.logits[..., 4] = -300.0
    ensemble = Ensemble(members)
    output = ensemble.step(torch.tensor([1, 1, 1]), ensemble.join([member.start() for member in members]))
    assert torch.isfinite(output.logits).all()
    assert float(output.logits[:, 4].max()) < -250


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one decoder, got none"):
        Ensemble([])
    with pytest.raises(ValueError, match="ensemble of 3 decoders takes as many states, got 1"):
        Ensemble(MEMBERS).join([MEMBERS[0].start()])
    for other, message in (
        (HistoryDecoder(0, factor=2, vocabulary_size=6), r"logits .* got \[\(3, 5\), \(3, 6\)\]"),
        (HistoryDecoder(0, factor=2, source_size=4), r"attention .* got \[\(3, 3\), \(3, 4\)\]"),
    ):
        with pytest.raises(ValueError, match=message):
            run([MEMBERS[0], other], GreedyConfig(max_length=3))
    ensemble = Ensemble(MEMBERS)
    with pytest.raises(ValueError, match="ensemble of 3 decoders takes as many states, got 1"):
        ensemble.step(torch.tensor([1, 1, 1]), EnsembleState((MEMBERS[0].start(),)))

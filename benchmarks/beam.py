"""Beam search over a batch against one sentence after the other.

64 sources of 5 to 30 steps, beam 5, an LSTM decoder with attention and input feeding of 512 units and a vocabulary of 10,000,
at most 60 tokens; the end of sequence grows likelier at every step, so that hypotheses end at lengths of all kinds. Tokens
and scores of both are compared: they may differ by near-ties alone.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Sizes
from core.nn.cells import CellWeights, lstm_step
from core.nn.lengths import valid_steps
from core.nn.search import BeamConfig, SpecialTokens, search
from core.nn.searching.hypotheses import Hypotheses
from core.nn.step_decoder import StepOutput

SPECIAL = SpecialTokens(bos=1, eos=2, pad=0, forbidden=(3,))
CONFIG = BeamConfig(beam_size=5, max_length=60, length_penalty=0.6)
NEAR_TIE = 1e-4


class AttendingState(NamedTuple):
    """One row a hypothesis, but for the memory, which has one an example."""

    hidden: Tensor
    cell: Tensor
    fed: Tensor
    num_read: Tensor
    """(rows,) tokens read so far."""
    memory: Tensor
    outside: Tensor
    """(examples, 1, source) True in the padding."""

    def select(self, rows: Tensor, *, examples: Tensor | None = None) -> "AttendingState":
        """The state of the hypotheses at `rows`."""
        memory, outside = self.memory, self.outside
        if examples is not None:
            memory, outside = memory[examples], outside[examples]
        return AttendingState(self.hidden[rows], self.cell[rows], self.fed[rows], self.num_read[rows], memory, outside)


class AttendingDecoder(nn.Module):
    """LSTM with dot attention and input feeding, random weights, and an end of sequence that grows likelier."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.embedding = nn.Embedding(sizes.vocabulary, hidden)
        self.recurrent = nn.LSTMCell(2 * hidden, hidden)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.readout = nn.Linear(hidden, sizes.vocabulary)
        # Logits spread as a trained network's: some tokens far likelier than most.
        nn.init.normal_(self.readout.weight, std=0.4)

    def start(self, memory: Tensor, lengths: Tensor) -> AttendingState:
        """Before the first token, from the encoded sources (examples, source, features)."""
        outside = ~valid_steps(lengths, memory.shape[1])
        memory = memory.masked_fill(outside.unsqueeze(-1), 0)
        hidden = memory.sum(1) / lengths.unsqueeze(-1)
        zeros = torch.zeros_like(hidden)
        return AttendingState(hidden, zeros, zeros, torch.zeros_like(lengths), memory, outside.unsqueeze(1))

    def step(self, tokens: Tensor, state: AttendingState) -> StepOutput[AttendingState]:
        """One token a row."""
        inputs = torch.cat([self.embedding(tokens), state.fed], dim=-1)
        weights = CellWeights(*self.recurrent.parameters())
        hidden, cell = lstm_step(inputs, hidden=state.hidden, cell=state.cell, weights=weights)
        queries = hidden.reshape(state.memory.shape[0], -1, hidden.shape[-1])
        scores = (queries @ state.memory.mT).masked_fill(state.outside, -torch.inf)
        attention = scores.softmax(-1)
        context = (attention @ state.memory).flatten(0, 1)
        fed = torch.tanh(self.combine(torch.cat([context, hidden], dim=-1)))
        logits = self.readout(fed)
        logits[:, SPECIAL.eos] += 0.45 * state.num_read
        following = state._replace(hidden=hidden, cell=cell, fed=fed, num_read=state.num_read + 1)
        return StepOutput(logits, following, attention.flatten(0, 1))


def beam(sizes: Sizes) -> Case:
    """All sentences at once against one after the other."""
    torch.manual_seed(0)
    decoder = AttendingDecoder(sizes).eval().to(sizes.device)
    lengths = torch.linspace(max(1, sizes.words // 6), sizes.words, sizes.sentences).round().long()
    lengths = lengths[torch.randperm(sizes.sentences)].to(sizes.device)
    memory = torch.randn(sizes.sentences, sizes.words, sizes.hidden, device=sizes.device)

    def run(start: int, stop: int) -> Hypotheses:
        some = lengths[start:stop]
        with torch.no_grad():
            state = decoder.start(memory[start:stop, : int(some.max())], some)
        return search(decoder, state=state, config=CONFIG, special=SPECIAL, source_lengths=some)

    def together() -> Hypotheses:
        return run(0, sizes.sentences)

    def one_at_a_time() -> list[Hypotheses]:
        return [run(place, place + 1) for place in range(sizes.sentences)]

    def compare() -> list[str]:
        return differences(together(), one_at_a_time())

    return Case(together, one_at_a_time, "one sentence after the other", compare)


def differences(together: Hypotheses, alone: list[Hypotheses]) -> list[str]:
    """Sentences whose best hypothesis differs, but for near-ties, which are counted aloud."""
    found, num_ties = [], 0
    lists = together.token_lists()
    for place, single in enumerate(alone):
        gap = abs(float(together.scores[place, 0] - single.scores[0, 0]))
        if not gap <= NEAR_TIE:
            found.append(f"sentence {place}: the scores differ by {gap:.1e}")
        elif lists[place] != single.token_lists()[0]:
            num_ties += 1
    spread = together.lengths.float()
    print(
        f"{len(alone)} sentences, {int(spread.min())} to {int(spread.max())} tokens, {float(spread.mean()):.1f} on average; "
        f"near-ties that went another way: {num_ties}"
    )
    return found

"""Truncated back-propagation through time against its definition, and what is carried from chunk to chunk (notes N6)."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.cells import RecurrentState
from core.nn.recurrent import Recurrent, RecurrentConfig
from core.training.truncated_bptt import StreamStates, counted_steps, run_chunk, run_streams

FEATURES = 3


class Chunk(NamedTuple):
    """One chunk of each stream, as the data side describes it."""

    streams: tuple[int, ...]
    starts: tuple[bool, ...]
    ends: tuple[bool, ...]
    shift: int
    lengths: Tensor
    context: Tensor
    offset: int


def cut(lengths: list[int], *, chunk_size: int, shift: int) -> list[Chunk]:
    """All streams begin together; those that have ended leave the batch."""
    chunks = []
    for number in range(max(lengths)):
        start = number * shift
        here = [i for i, total in enumerate(lengths) if number == 0 or start + chunk_size - shift < total]
        if not here:
            break
        rest = [lengths[i] - start for i in here]
        chunks.append(
            Chunk(
                streams=tuple(here),
                starts=(number == 0,) * len(here),
                ends=tuple(steps <= chunk_size for steps in rest),
                shift=shift,
                lengths=torch.tensor([min(steps, chunk_size) for steps in rest]),
                context=torch.full((len(here),), 0 if number == 0 else chunk_size - shift),
                offset=start,
            )
        )
    return chunks


def inputs_of(chunk: Chunk, inputs: Tensor) -> Tensor:
    return inputs[list(chunk.streams), chunk.offset : chunk.offset + int(chunk.lengths.max())]


def loss_of(outputs: Tensor, mask: Tensor, *, start: int) -> Tensor:
    """A loss that weighs every step otherwise."""
    weight = torch.cos(torch.arange(outputs.shape[1], dtype=outputs.dtype) + start).unsqueeze(-1)
    return (outputs.square() * weight * mask.unsqueeze(-1)).sum()


def gradients(model: Recurrent) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class Recipe(NamedTuple):
    config: RecurrentConfig
    lengths: list[int]
    chunk_size: int
    shift: int
    seed: int

    def make(self) -> tuple[Recurrent, Tensor]:
        torch.manual_seed(self.seed)
        model = Recurrent(self.config, input_size=FEATURES).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
        return model, torch.randn(len(self.lengths), max(self.lengths), FEATURES, dtype=torch.float64)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    num_layers = draw(st.integers(1, 2))
    chunk_size = draw(st.integers(1, 6))
    return Recipe(
        RecurrentConfig(
            kind=draw(st.sampled_from(["rnn_tanh", "lstm", "gru"])),
            hidden_size=draw(st.integers(1, 3)),
            num_layers=num_layers,
            learn_initial_state=draw(st.booleans()),
        ),
        lengths=draw(st.lists(st.integers(1, 15), min_size=1, max_size=4)),
        chunk_size=chunk_size,
        shift=draw(st.integers(1, chunk_size)),
        seed=draw(st.integers(0, 2**31)),
    )


@settings(max_examples=60, deadline=None)
@given(recipe=recipes())
def test_outputs_are_those_of_the_whole_and_gradients_those_of_the_definition(recipe: Recipe) -> None:
    """Williams & Peng: each chunk's loss, back through the chunk alone, from the state that the whole sequence has there."""
    model, inputs = recipe.make()
    whole, _ = model(inputs, torch.tensor(recipe.lengths))
    states, counted = StreamStates(), torch.zeros(inputs.shape[:2])
    for chunk in cut(recipe.lengths, chunk_size=recipe.chunk_size, shift=recipe.shift):
        outputs = run_streams(model, inputs_of(chunk, inputs), chunk=chunk, states=states)
        mask = counted_steps(chunk, outputs.shape[1])
        steps = slice(chunk.offset, chunk.offset + outputs.shape[1])
        counted[list(chunk.streams), steps] += mask
        expected = whole[list(chunk.streams), steps]
        torch.testing.assert_close(outputs[mask], expected[mask], rtol=1e-10, atol=1e-10)
        loss_of(outputs, mask, start=chunk.offset).backward()
    assert len(states) == 0
    assert counted.sum(1).tolist() == recipe.lengths
    assert counted.max() == 1
    ours = gradients(model)
    model.zero_grad()
    for stream, total in enumerate(recipe.lengths):
        for chunk in cut([total], chunk_size=recipe.chunk_size, shift=recipe.shift):
            sequence = inputs[stream : stream + 1]
            state = None
            if chunk.offset:
                with torch.no_grad():
                    _, state = model(sequence[:, : chunk.offset], None)
            size = int(chunk.lengths[0])
            outputs, _ = model(sequence[:, chunk.offset : chunk.offset + size], None, state)
            loss_of(outputs, counted_steps(chunk, size), start=chunk.offset).backward()
    torch.testing.assert_close(ours, gradients(model), rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(recipe=recipes())
def test_one_chunk_that_holds_the_sequence_gives_the_full_gradient(recipe: Recipe) -> None:
    model, inputs = recipe.make()
    lengths = torch.tensor(recipe.lengths)
    outputs, _ = model(inputs, lengths)
    loss_of(outputs, torch.ones(inputs.shape[:2]), start=0).backward()
    whole = gradients(model)
    model.zero_grad()
    outputs, _ = run_chunk(model, inputs, lengths=lengths, state=model.initial_state(len(inputs)), shift=recipe.shift)
    loss_of(outputs, torch.ones(inputs.shape[:2]), start=0).backward()
    torch.testing.assert_close(gradients(model), whole, rtol=1e-10, atol=1e-10)


def test_the_gradient_reaches_back_through_the_overlap_and_no_further() -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4), input_size=FEATURES).double()
    inputs = torch.randn(1, 30, FEATURES, dtype=torch.float64, requires_grad=True)
    states = StreamStates()
    for chunk in cut([30], chunk_size=8, shift=3):
        outputs = run_streams(model, inputs_of(chunk, inputs), chunk=chunk, states=states)
        (gradient,) = torch.autograd.grad(outputs[:, -1].sum(), inputs)
        reached = gradient[0].abs().sum(-1).nonzero().flatten()
        last = chunk.offset + int(chunk.lengths[0])
        assert reached.tolist() == list(range(chunk.offset, last))


@dataclass
class SavedBytes:
    """Bytes that autograd holds for the backward pass: now, and at their most."""

    now: int = 0
    peak: int = 0
    holders: list[Any] = field(default_factory=list)

    def pack(self, tensor: Tensor) -> Any:
        size = tensor.untyped_storage().nbytes()

        class Holder:
            value = tensor

        holder = Holder()
        weakref.finalize(holder, self._release, size)
        self.now += size
        self.peak = max(self.peak, self.now)
        return holder

    def _release(self, size: int) -> None:
        self.now -= size

    @staticmethod
    def unpack(holder: Any) -> Tensor:
        return holder.value


def peak_of_saved_tensors(num_steps: int, *, truncated: bool) -> int:
    # rnn_sigmoid runs step by step: what it saves is not hidden inside one kernel.
    model = Recurrent(RecurrentConfig(kind="rnn_sigmoid", hidden_size=4), input_size=FEATURES)
    inputs = torch.randn(2, num_steps, FEATURES)
    saved, states = SavedBytes(), StreamStates()
    chunk_size = 20 if truncated else num_steps
    for chunk in cut([num_steps] * 2, chunk_size=chunk_size, shift=chunk_size // 2):
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
            outputs = run_streams(model, inputs_of(chunk, inputs).clone(), chunk=chunk, states=states)
            loss = outputs.square().sum()
        loss.backward()
        del outputs, loss
    assert saved.now == 0
    return saved.peak


def test_memory_is_flat_in_the_length_of_the_sequence() -> None:
    short, long = (peak_of_saved_tensors(steps, truncated=True) for steps in (100, 1000))
    assert long == short > 0
    whole = [peak_of_saved_tensors(steps, truncated=False) for steps in (100, 200)]
    assert whole[1] > 1.5 * whole[0]


# What is carried ------------------------------------------------------------------------------------------------------


def state(*values: float, cell: bool = True) -> RecurrentState:
    hidden = torch.tensor(values).reshape(1, -1, 1).expand(2, -1, 3)
    return RecurrentState(hidden, -hidden if cell else None)


def taken(states: StreamStates, streams: list[int], starts: list[bool], *, cell: bool = True) -> list[float]:
    got = states.take(streams, starts=starts, initial=state(*[0.5] * len(streams), cell=cell))
    assert (got.cell is None) is not cell
    if got.cell is not None:
        assert torch.equal(got.cell, -got.hidden)
    return got.hidden[1, :, 2].tolist()


@pytest.mark.parametrize("cell", [True, False])
def test_each_row_continues_its_own_stream(cell: bool) -> None:
    states = StreamStates()
    assert taken(states, [3, 1, 7], [True] * 3, cell=cell) == [0.5] * 3
    states.put([3, 1, 7], ends=[False] * 3, state=state(30.0, 10.0, 70.0, cell=cell))
    states.put([4], ends=[False], state=state(40.0, cell=cell))  # another piece of the same global batch
    assert taken(states, [7, 4, 3, 1], [False] * 4, cell=cell) == [70.0, 40.0, 30.0, 10.0]
    # A stream that starts again does not see what it left; a filler sees nobody's.
    assert taken(states, [7, -1, 3], [True, False, False], cell=cell) == [0.5, 0.5, 30.0]


def test_what_has_ended_or_was_never_there_is_forgotten() -> None:
    states = StreamStates()
    states.put([3, -1, 1], ends=[False, False, True], state=state(30.0, 99.0, 10.0))
    assert len(states) == 1
    with pytest.raises(ValueError, match=r"Row 1 of the batch continues stream 1, but .* no state of it"):
        taken(states, [3, 1], [False, False])
    states.put([3], ends=[True], state=state(31.0))
    assert len(states) == 0
    states.put([3], ends=[False], state=state(31.0))
    states.reset()
    with pytest.raises(ValueError, match="stream 3"):
        taken(states, [3], [False])


def test_history_ends_at_a_chunk_and_a_learned_start_is_learned_from_first_chunks_alone() -> None:
    states = StreamStates()
    carried = state(1.0, 2.0).hidden.clone().requires_grad_()
    states.put([0, 1], ends=[False, False], state=RecurrentState(carried * 2))
    initial = torch.zeros(2, 3, 3, requires_grad=True)
    got = states.take([0, 5, 1], starts=[False, True, False], initial=RecurrentState(initial))
    assert got.hidden[0, :, 0].tolist() == [2.0, 0.0, 4.0]
    got.hidden.sum().backward()
    assert carried.grad is None
    assert initial.grad is not None
    assert initial.grad[0, :, 0].tolist() == [0.0, 1.0, 0.0]


def test_states_come_back_from_plain_data() -> None:
    states = StreamStates()
    assert states.state_dict() is None
    states.put([5, 2], ends=[False, False], state=state(50.0, 20.0))
    stored = states.state_dict()
    assert stored is not None
    assert stored["streams"] == [2, 5]
    again = StreamStates()
    again.load_state_dict(stored)
    assert taken(again, [5, 2], [False, False]) == [50.0, 20.0]
    # Saved before anything has moved on, it is what was loaded; afterwards only what this run holds.
    assert str(again.state_dict()) == str(stored)
    again.put([5], ends=[False], state=state(51.0))
    assert str(again.state_dict()) == str({"streams": [5], **state(51.0)._asdict()})
    again.load_state_dict(None)
    assert len(again) == 0


def test_a_second_look_leaves_them_as_they_were() -> None:
    states = StreamStates()
    states.put([5, 2], ends=[False, False], state=state(50.0, 20.0))
    with states.preserved():
        states.put([5, 2], ends=[True, False], state=state(51.0, 21.0))
    assert taken(states, [5, 2], [False, False]) == [50.0, 20.0]


def test_half_precision_is_carried_as_it_is() -> None:
    model = Recurrent(RecurrentConfig(kind="lstm", hidden_size=4), input_size=FEATURES)
    states, inputs = StreamStates(), torch.randn(2, 12, FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for chunk in cut([12, 9], chunk_size=6, shift=4):
            outputs = run_streams(model, inputs_of(chunk, inputs), chunk=chunk, states=states)
            assert outputs.isfinite().all()


def test_what_cannot_carry_a_state_is_refused() -> None:
    both = Recurrent(RecurrentConfig(kind="gru", hidden_size=4, bidirectional=True), input_size=FEATURES)
    arguments = {"lengths": torch.tensor([4, 4]), "state": both.initial_state(2)}
    with pytest.raises(ValueError, match="bidirectional to false"):
        run_chunk(both, torch.zeros(2, 4, FEATURES), shift=2, **arguments)
    one = Recurrent(RecurrentConfig(kind="gru", hidden_size=4), input_size=FEATURES)
    arguments["state"] = one.initial_state(2)
    with pytest.raises(ValueError, match="shift must be at least 1 step, got 0"):
        run_chunk(one, torch.zeros(2, 4, FEATURES), shift=0, **arguments)

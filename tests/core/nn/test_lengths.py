"""Valid steps, reversal and the last step, against plain Python over any lengths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.nn.lengths import last_valid_step, reverse_within_lengths, valid_steps


@st.composite
def padded(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    num_steps = draw(st.integers(1, 7))
    lengths = draw(st.lists(st.integers(0, num_steps), min_size=1, max_size=5))
    features = draw(st.sampled_from([(), (2,), (2, 3)]))
    return torch.randn(len(lengths), num_steps, *features), torch.tensor(lengths)


@settings(deadline=None)
@given(case=padded())
def test_each_sequence_alone(case: tuple[Tensor, Tensor]) -> None:
    sequence, lengths = case
    mask = valid_steps(lengths, sequence.shape[1])
    reversed_, last = reverse_within_lengths(sequence, lengths), last_valid_step(sequence, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert mask[row].tolist() == [step < length for step in range(sequence.shape[1])]
        assert torch.equal(reversed_[row, :length], sequence[row, :length].flip(0))
        assert torch.equal(reversed_[row, length:], sequence[row, length:])
        assert torch.equal(last[row], sequence[row, length - 1] if length else torch.zeros_like(sequence[row, 0]))


@settings(deadline=None)
@given(case=padded())
def test_reversing_twice_changes_nothing(case: tuple[Tensor, Tensor]) -> None:
    sequence, lengths = case
    assert torch.equal(reverse_within_lengths(reverse_within_lengths(sequence, lengths), lengths), sequence)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1.0, 2.0]), r"int64, got torch.float32.*lengths.long"),
        (torch.tensor([1, 2], dtype=torch.int32), r"int64, got torch.int32"),
        (torch.tensor([1, 2, 3]), r"shape \(2,\), got \(3,\)"),
        (torch.tensor([[1, 2]]), r"shape \(2,\), got \(1, 2\)"),
        (torch.ones(2, dtype=torch.int64, device="meta"), r"on cpu, where the inputs are, got meta"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: Tensor, message: str) -> None:
    for function in (reverse_within_lengths, last_valid_step):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(2, 4, 1), lengths)

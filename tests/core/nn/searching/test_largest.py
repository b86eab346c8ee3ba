"""The largest values of rows, ties included, against a stable sort of the whole row."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.nn.searching.largest import largest


@settings(deadline=None, max_examples=150)
@given(
    num_rows=st.integers(1, 4),
    num_columns=st.integers(1, 1500),
    num=st.integers(1, 12),
    levels=st.sampled_from([1, 2, 50, None]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
@example(num_rows=2, num_columns=10_003, num=10, levels=3, dtype=torch.float32, seed=0)
@example(num_rows=2, num_columns=10_003, num=10, levels=None, dtype=torch.float64, seed=0)
def test_the_first_of_a_stable_sort(
    num_rows: int, num_columns: int, num: int, levels: int | None, dtype: torch.dtype, seed: int
) -> None:
    """Few levels: most values are ties, and the lower column goes first; minus infinity is a value like others."""
    num = min(num, num_columns)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_rows, num_columns, dtype=dtype, generator=generator)
    if levels is not None:
        values = torch.randint(levels, values.shape, generator=generator).to(dtype) - 1
    values[torch.rand(values.shape, generator=generator) < 0.2] = -torch.inf
    expected = values.sort(dim=-1, descending=True, stable=True)
    found, columns = largest(values, num)
    assert torch.equal(columns, expected.indices[:, :num])
    assert torch.equal(found, expected.values[:, :num])


def test_rows_that_are_all_ruled_out_give_their_first_columns() -> None:
    values = torch.full((2, 5000), -torch.inf)
    assert torch.equal(largest(values, 3)[1], torch.tensor([[0, 1, 2], [0, 1, 2]]))


@pytest.mark.parametrize("num", [0, 6])
def test_more_than_there_are_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and the number of columns, 5, got {num}"):
        largest(torch.zeros(2, 5), num)
